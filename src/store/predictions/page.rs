//! Stored answers, one page after another, in the order in which they were stored.

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};

use super::{Predictions, Stored, stored};
use crate::error::Result;

/// Places that one page looks at: of another model's answers there may be very many
/// between two.
const LOOKED_MAX: i64 = 100_000;

/// The first and the last place behind one.
const ENDS: &str = "SELECT (SELECT min(n) FROM prediction WHERE n > $1), \
                    (SELECT max(n) FROM prediction WHERE n > $1)";
const PAGE: &str = "SELECT n, id, at, answerer, answers, truths, routing FROM prediction \
                    WHERE n > $1 AND n <= $2 \
                    AND answerer IN (SELECT value FROM json_each($3)) \
                    AND (truths IS NOT NULL OR NOT $4) ORDER BY n LIMIT $5";

/// Which answers are wanted, and how many at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf {
    /// Those behind this place.
    pub after: i64,
    /// By whom: numbers that [`Predictions::add_answerer`] returned.
    pub answerers: Vec<i64>,
    /// Whether only those with a label are.
    pub labelled: bool,
    /// The most requests.
    pub requests_max: usize,
    /// The most rows; one request is always whole.
    pub rows_max: usize,
    /// The most bytes, as they are stored; one request is always whole.
    pub bytes_max: usize,
}

/// Answers that follow each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The answers. There may be none although more follow: other models' were there.
    pub stored: Vec<Stored>,
    /// The place behind which the next page begins; `None` behind the last one.
    pub next: Option<i64>,
    /// The last place that there was, whosever it is; 0 of none.
    pub last: i64,
}

/// How full a page is.
#[derive(Default)]
struct Fill {
    rows: usize,
    bytes: usize,
}

impl Fill {
    /// Whether a page with this much takes more of this size; if so, it has.
    fn takes(&mut self, of: &PageOf, rows: usize, bytes: usize) -> bool {
        let (all_rows, all_bytes) = (self.rows + rows, self.bytes + bytes);
        let fits = all_rows <= of.rows_max && all_bytes <= of.bytes_max;
        if fits || self.bytes == 0 {
            (self.rows, self.bytes) = (all_rows, all_bytes);
            return true;
        }
        false
    }
}

impl Predictions {
    /// A page of answers, the oldest first. It looks at a bounded number of them, whosever
    /// they are.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn page(&self, of: &PageOf) -> Result<Page> {
        read(&self.pool, of).await.map_err(|error| self.failed("read", &error))
    }
}

async fn read(pool: &SqlitePool, of: &PageOf) -> sqlx::Result<Page> {
    let ends = sqlx::query(ENDS).bind(of.after).fetch_one(pool).await?;
    let [first, last]: [Option<i64>; 2] = [ends.get(0), ends.get(1)];
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(Page { last: of.after, ..Page::default() });
    };
    // Nobody takes an answer out but the oldest, so that places follow each other.
    let to = last.min(first.saturating_add(LOOKED_MAX - 1));
    let answerers = serde_json::to_string(&of.answerers).unwrap_or_default();
    let limit = i64::try_from(of.requests_max).unwrap_or(i64::MAX);
    let query = sqlx::query(PAGE).bind(of.after).bind(to).bind(answerers);
    let mut found = query.bind(of.labelled).bind(limit).fetch(pool);
    let (mut fill, mut seen, mut taken) = (Fill::default(), 0, to);
    let mut page = Page { last, ..Page::default() };
    while let Some(row) = found.try_next().await? {
        // What is damaged is no answer, as wherever it is looked for.
        let own = stored(&row);
        let rows = own.as_ref().map_or(0, |own| own.prediction.rows.len());
        if !fill.takes(of, rows, bytes(&row)) {
            seen = of.requests_max;
            break;
        }
        seen += 1;
        taken = row.get(0);
        page.stored.extend(own);
    }
    let end = if seen >= of.requests_max { taken } else { to };
    page.next = Some(end).filter(|end| *end < last);
    Ok(page)
}

/// What a row takes in the file, about.
fn bytes(row: &SqliteRow) -> usize {
    let (answers, truths): (&[u8], Option<&[u8]>) = (row.get(4), row.get(5));
    answers.len() + truths.map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Changes, NewPrediction};
    use crate::types::{LabelValue, PredictionId, RowAnswer};

    /// An answer of so many rows, from 1 on; every third one has a label.
    fn prediction(number: u8, answerer: i64, rows: usize) -> NewPrediction {
        let truths = (number.is_multiple_of(3)).then_some((0, LabelValue::Bool(true)));
        NewPrediction {
            id: PredictionId([number; 16]),
            at: 0,
            answerer,
            key: None,
            rows: vec![(Some(RowAnswer::Value(1.0)), [0; 8]); rows],
            truths: truths.into_iter().collect(),
        }
    }

    /// Twelve answers of two rows, the even ones by another answerer.
    async fn store(folder: &std::path::Path) -> Predictions {
        let store = Predictions::open(folder).await.unwrap();
        let predictions = (1..=12).map(|n| prediction(n, i64::from(n % 2), 2)).collect();
        store.write(&Changes { predictions, ..Changes::default() }).await.unwrap();
        store
    }

    const ALL: PageOf = PageOf {
        after: 0,
        answerers: vec![],
        labelled: false,
        requests_max: 100,
        rows_max: 100,
        bytes_max: 100_000,
    };

    async fn page(store: &Predictions, of: PageOf) -> (Vec<i64>, Option<i64>) {
        let page = store.page(&of).await.unwrap();
        assert!(page.last >= of.after, "{page:?}");
        (page.stored.iter().map(|stored| stored.n).collect(), page.next)
    }

    #[tokio::test]
    async fn pages_follow_each_other_and_split_no_request() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let both = PageOf { answerers: vec![0, 1], ..ALL };
        assert_eq!(page(&store, both.clone()).await, ((1..=12).collect(), None));
        let four = PageOf { requests_max: 4, ..both.clone() };
        assert_eq!(page(&store, four.clone()).await, (vec![1, 2, 3, 4], Some(4)));
        assert_eq!(page(&store, PageOf { after: 8, ..four }).await, (vec![9, 10, 11, 12], None));
        let rows = PageOf { rows_max: 5, ..both.clone() };
        assert_eq!(page(&store, rows).await, (vec![1, 2], Some(2)));
        let narrow = PageOf { rows_max: 1, bytes_max: 1, after: 10, ..both.clone() };
        assert_eq!(page(&store, narrow).await, (vec![11], Some(11)));
        let beyond = PageOf { after: i64::MAX, ..both };
        assert_eq!(page(&store, beyond).await, (vec![], None));
    }

    #[tokio::test]
    async fn others_answers_and_those_without_labels_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let odd = PageOf { answerers: vec![1], requests_max: 2, ..ALL };
        assert_eq!(page(&store, odd.clone()).await, (vec![1, 3], Some(3)));
        let labelled = PageOf { labelled: true, ..odd.clone() };
        // That they are the last ones is not known before it is looked.
        assert_eq!(page(&store, labelled.clone()).await, (vec![3, 9], Some(9)));
        assert_eq!(page(&store, PageOf { after: 9, ..labelled }).await, (vec![], None));
        let nobody = PageOf { answerers: vec![], ..odd };
        assert_eq!(page(&store, nobody).await, (vec![], None));
    }

    #[tokio::test]
    async fn a_page_looks_at_so_many_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let moved = sqlx::query("UPDATE prediction SET n = n + $1 WHERE n > 6").bind(LOOKED_MAX);
        moved.execute(&store.pool).await.unwrap();
        let both = PageOf { answerers: vec![0, 1], ..ALL };
        assert_eq!(page(&store, both.clone()).await, ((1..=6).collect(), Some(LOOKED_MAX)));
        let rest = page(&store, PageOf { after: LOOKED_MAX, ..both }).await;
        assert_eq!(rest, ((LOOKED_MAX + 7..=LOOKED_MAX + 12).collect(), None));
    }
}
