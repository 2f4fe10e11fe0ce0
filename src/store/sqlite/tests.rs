use tempfile::TempDir;

use super::*;
use crate::store::{Unloaded, Wanted};
use crate::types::{Share, VersionId};

fn churn() -> ModelName {
    ModelName::new("churn").unwrap()
}

fn fraud() -> ModelName {
    ModelName::new("fraud").unwrap()
}

fn entry(action: &str) -> NewEntry {
    NewEntry {
        actor: "eve".into(),
        action: action.into(),
        reason: Some("why".into()),
        from: "champion 1".into(),
        to: "champion 2".into(),
    }
}

fn wanted(champion: u64) -> Wanted {
    Wanted {
        champion: VersionId::new(champion),
        previous: vec![VersionId::new(1).unwrap()],
        canary: Some((VersionId::new(9).unwrap(), Share::from_percent(12.34).unwrap())),
        shadows: vec![(VersionId::new(8).unwrap(), Share::from_percent(50.0).unwrap())],
        salt: [7; 16],
        unloaded: Unloaded::default(),
    }
}

async fn open(folder: &TempDir) -> Sqlite {
    Sqlite::open(folder.path()).await.unwrap()
}

async fn run(store: &Sqlite, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&store.pool).await.unwrap();
}

#[tokio::test]
async fn what_was_recorded_is_there_after_the_file_was_opened_again() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    assert_eq!(store.wanted(&churn()).await.unwrap(), None);
    for (model, action) in [(churn(), "a"), (fraud(), "b"), (churn(), "c")] {
        let champion = u64::try_from(action.len()).unwrap() + 1;
        let written = store.record(&model, entry(action), &wanted(champion)).await.unwrap();
        assert_eq!(written.action, action);
    }
    drop(store);
    let store = open(&folder).await;
    assert_eq!(store.wanted(&churn()).await.unwrap(), Some(wanted(2)));
    let mine = store.history(Some(&churn()), 10).await.unwrap();
    assert_eq!(mine.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["c", "a"]);
    assert_eq!(mine[0].reason.as_deref(), Some("why"));
    let all = store.history(None, 2).await.unwrap();
    assert_eq!(all.iter().map(|e| e.number).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(store.verify(Some(all[0].hash.clone())).await.unwrap(), (3, all[0].hash.clone()));
    let beside = Sqlite::open_to_read(folder.path()).await.unwrap();
    assert_eq!(beside.verify(None).await.unwrap().0, 3);
    assert!(beside.record(&churn(), entry("d"), &wanted(3)).await.is_err());
}

#[tokio::test]
async fn what_somebody_did_to_the_log_is_found() {
    let changes = [
        ("UPDATE audit SET actor = 'mallory' WHERE number = 2", "entry 2 was changed"),
        ("UPDATE audit SET state = '{}' WHERE number = 1", "entry 1 was changed"),
        ("DELETE FROM audit WHERE number = 2", "entry 2 is missing: 3 stands"),
        (
            "UPDATE audit SET number = 9 WHERE number = 2;
             UPDATE audit SET number = 2 WHERE number = 3;
             UPDATE audit SET number = 3 WHERE number = 9",
            "entry 2 was changed",
        ),
        ("DELETE FROM audit WHERE number = 4", "no entry has the hash"),
    ];
    for (sql, expected) in changes {
        let folder = TempDir::new().unwrap();
        let store = open(&folder).await;
        let mut head = String::new();
        for action in ["a", "b", "c", "d"] {
            head = store.record(&churn(), entry(action), &wanted(1)).await.unwrap().hash;
        }
        run(&store, sql).await;
        let error = store.verify(Some(head)).await.unwrap_err();
        assert!(error.message().starts_with(expected), "{sql}: {error}");
        assert_eq!(error.code(), ErrorCode::Conflict);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_left_as_it_is() {
    let refused = async |folder: &TempDir| {
        let error = Sqlite::open(folder.path()).await.map(drop).unwrap_err();
        assert!(error.message().contains(FILE), "{error}");
        error.message().to_owned()
    };
    let folder = TempDir::new().unwrap();
    let garbage = vec![b'x'; 10_000];
    std::fs::write(folder.path().join(FILE), &garbage).unwrap();
    assert!(refused(&folder).await.contains("not a database"));
    assert!(std::fs::read(folder.path().join(FILE)).unwrap() == garbage);

    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join(FILE)).unwrap();
    refused(&folder).await;

    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let newer = "INSERT INTO _sqlx_migrations
                 (version, description, success, checksum, execution_time)
                 VALUES (7, 'later', 1, x'00', 0)";
    run(&store, newer).await;
    store.pool.close().await;
    let message = refused(&folder).await;
    assert!(message.contains("a newer version of this program"), "{message}");
    assert!(message.contains("its form is 7, the newest known here 1"), "{message}");
}

#[tokio::test]
async fn a_damaged_file_is_found_at_start() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    for _ in 0..200 {
        store.record(&churn(), entry("a"), &wanted(1)).await.unwrap();
    }
    // Everything into the file, and nothing beside it.
    store.pool.close().await;
    let path = folder.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    let error = Sqlite::open(folder.path()).await.map(drop).unwrap_err();
    let message = error.message();
    assert!(message.contains("damaged") || message.contains("malformed"), "{message}");
}

/// A full disk: the change fails, what is there stays, and later it goes on.
#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_said() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    store.record(&churn(), entry("first"), &wanted(1)).await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.pool).await.unwrap();
    store.pool.close().await;
    let limited = |pages: i64| {
        let options = SqliteConnectOptions::new().filename(folder.path().join(FILE));
        options.pragma("max_page_count", pages.to_string())
    };
    let store = Sqlite::connect(folder.path().join(FILE), limited(pages)).await.unwrap();
    let large = NewEntry { reason: Some("x".repeat(100_000)), ..entry("large") };
    let error = store.record(&churn(), large.clone(), &wanted(2)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert_eq!(error.message(), "the store cannot be written: database or disk is full");
    assert_eq!(store.wanted(&churn()).await.unwrap(), Some(wanted(1)));
    assert_eq!(store.verify(None).await.unwrap().0, 1);
    store.pool.close().await;
    let store = Sqlite::connect(folder.path().join(FILE), limited(1 << 20)).await.unwrap();
    assert_eq!(store.record(&churn(), large, &wanted(2)).await.unwrap().number, 2);
    assert_eq!(store.verify(None).await.unwrap().0, 2);
}
