use tempfile::TempDir;

use super::*;
use crate::store::{RolloutQuery, RolloutRow, Unloaded, Wanted};
use crate::types::{Digest, Share, VersionId};

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
        rollout: None,
    }
}

fn wanted(champion: u64) -> Wanted {
    Wanted {
        champion: VersionId::new(champion),
        previous: vec![VersionId::new(1).unwrap()],
        canary: Some((VersionId::new(9).unwrap(), Share::from_percent(12.34).unwrap())),
        holdback: false,
        shadows: vec![(VersionId::new(8).unwrap(), Share::from_percent(50.0).unwrap())],
        salt: [7; 16],
        unloaded: Unloaded::default(),
        pinned: [(VersionId::new(champion).unwrap(), Digest::new([3; 32]))].into(),
        newest: VersionId::new(9),
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
async fn a_transaction_that_ended_behind_the_drivers_back_is_not_the_end() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    // As many connections as the pool has.
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        held.push(store.pool.begin().await.unwrap());
    }
    for transaction in &mut held {
        // As SQLite does by itself when the disk is full.
        sqlx::raw_sql("ROLLBACK").execute(&mut **transaction).await.unwrap();
    }
    drop(held);
    for number in 1..=3 {
        let written = store.record(&churn(), entry("a"), &wanted(1)).await.unwrap();
        assert_eq!(written.number, number);
    }
}

#[tokio::test]
async fn tokens_are_in_the_chain_and_are_no_state_of_a_model() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    store.record(&churn(), entry("a"), &wanted(1)).await.unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH;
    let made =
        crate::store::NewToken::make("eve", crate::store::TokenRole::Viewer, "ann", None, now);
    let row = made.unwrap().row;
    let of = |action: &str| NewEntry::of_gateway("ann".into(), action.into());
    store.add_token(&row, of("token eve made")).await.unwrap();
    let again = store.add_token(&row, of("once more")).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::Conflict);
    assert_eq!(store.tokens().await.unwrap(), [row]);
    let gone = store.remove_token("eve", of("token eve revoked")).await.unwrap().unwrap();
    assert_eq!(store.remove_token("eve", of("once more")).await.unwrap(), None);
    assert_eq!((gone.number, gone.model.as_str()), (3, ""));
    assert_eq!(store.state_at(2).await.unwrap(), None);
    assert_eq!(store.history(Some(&churn()), 9).await.unwrap().len(), 1);
    assert_eq!(store.verify(Some(gone.hash.clone())).await.unwrap(), (3, gone.hash));
    run(&store, "UPDATE audit SET action = 'token eve made: admin' WHERE number = 2").await;
    assert!(store.verify(None).await.is_err());
}

#[tokio::test]
async fn a_former_state_is_read_by_its_entry() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    for (model, champion) in [(churn(), 1), (fraud(), 2), (churn(), 3)] {
        store.record(&model, entry("a"), &wanted(champion)).await.unwrap();
    }
    assert_eq!(store.state_at(1).await.unwrap(), Some(("churn".to_owned(), wanted(1))));
    assert_eq!(store.state_at(2).await.unwrap(), Some(("fraud".to_owned(), wanted(2))));
    for none in [0, 4, u64::MAX] {
        assert_eq!(store.state_at(none).await.unwrap(), None);
    }
    // As it was written before contents were noted.
    run(
        &store,
        r#"UPDATE audit SET state = '{"champion":1,"previous":[],"canary":null,"shadows":[],
           "salt":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}' WHERE number = 1"#,
    )
    .await;
    assert_eq!(store.state_at(1).await.unwrap().unwrap().1.pinned, [].into());
}

#[tokio::test]
async fn what_is_kept_is_noted_until_it_is_discarded() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let kept = |version: u64, needed| Kept {
        model: churn(),
        version: VersionId::new(version).unwrap(),
        digest: Digest::new([3; 32]),
        content: "{}".to_owned(),
        bytes: 7,
        needed,
    };
    for each in [kept(1, 10), kept(2, 20), kept(1, 30)] {
        store.keep(&each).await.unwrap();
    }
    store.discard(&kept(2, 0)).await.unwrap();
    drop(store);
    assert_eq!(open(&folder).await.kept().await.unwrap(), [kept(1, 30)]);
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
                 VALUES (77, 'later', 1, x'00', 0)";
    run(&store, newer).await;
    store.pool.close().await;
    let message = refused(&folder).await;
    assert!(message.contains("a newer version of this program"), "{message}");
    let newest = MIGRATIONS.last().unwrap().0;
    let known = format!("its form is 77, the newest known here {newest}");
    assert!(message.contains(&known), "{message}");
}

/// A disk that can only be read: what it says holds, and nothing is written.
#[tokio::test]
async fn a_file_that_cannot_be_written_is_read_as_it_is() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    store.record(&churn(), entry("a"), &wanted(2)).await.unwrap();
    let store = Sqlite::open_as_it_is(folder.path()).await.unwrap();
    assert_eq!(store.wanted(&churn()).await.unwrap(), Some(wanted(2)));
    let error = store.record(&churn(), entry("b"), &wanted(3)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("readonly"), "{error}");
    let later = "UPDATE _sqlx_migrations SET version = 77 \
                 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)";
    run(&open(&folder).await, later).await;
    let error = Sqlite::open_as_it_is(folder.path()).await.map(drop).unwrap_err();
    assert!(error.message().contains("a newer version of this program"), "{error}");
    assert!(Sqlite::open_as_it_is(TempDir::new().unwrap().path()).await.is_err());
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

/// Who was counted is kept with the counts, and no longer than they matter.
#[tokio::test]
async fn the_keys_of_a_rollout_are_kept_until_it_ends() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let row = |open, keys: Option<&[u8]>| RolloutRow {
        id: 7,
        model: churn(),
        version: VersionId::new(2).unwrap(),
        open,
        state: "{}".into(),
        keys: keys.map(<[u8]>::to_vec),
    };
    let kept = async || store.rollouts(&RolloutQuery::Id(7)).await.unwrap().remove(0).keys;
    store.save_rollout(&row(true, Some(&[1, 2]))).await.unwrap();
    assert_eq!(kept().await, Some(vec![1, 2]));
    // A step that knows of none leaves them.
    store.save_rollout(&row(true, None)).await.unwrap();
    assert_eq!(kept().await, Some(vec![1, 2]));
    store.save_rollout(&row(true, Some(&[3]))).await.unwrap();
    assert_eq!(store.rollouts(&RolloutQuery::Open).await.unwrap()[0].keys, Some(vec![3]));
    store.save_rollout(&row(false, None)).await.unwrap();
    store.save_rollout(&row(true, None)).await.unwrap();
    assert_eq!(kept().await, None);
}

#[tokio::test]
async fn a_note_changes_nothing_that_is_wanted_and_says_what_was() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    // Of a model that was never seen, of one that was, and of none.
    store.note(Some(&churn()), entry("early")).await.unwrap();
    store.record(&churn(), entry("a"), &wanted(2)).await.unwrap();
    let mut recorded = store.recorded();
    recorded.mark_unchanged();
    let noted = store.note(Some(&churn()), entry("alert")).await.unwrap();
    assert_eq!((noted.number, &*noted.model), (3, "churn"));
    assert!(recorded.has_changed().unwrap());
    store.note(None, entry("store")).await.unwrap();
    store.record(&churn(), entry("b"), &wanted(3)).await.unwrap();
    assert_eq!(store.wanted(&churn()).await.unwrap(), Some(wanted(3)));
    assert_eq!(store.wanted(&fraud()).await.unwrap(), None);
    let mut states = Vec::new();
    for number in 1..=5 {
        states.push(store.state_at(number).await.unwrap().map(|(_, wanted)| wanted));
    }
    let expected = [None, Some(wanted(2)), Some(wanted(2)), None, Some(wanted(3))];
    assert_eq!(states, expected);
    assert_eq!(store.verify(None).await.unwrap().0, 5);
}
