//! The tokens that are known now.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;

use crate::error::{Error, ErrorCode, Result};
use crate::store::{AuditEntry, NewEntry, NewToken, Store, TokenRole, TokenRow, secret_digest};

/// The most tokens that there may be.
const TOKENS_MAX: usize = 1_000;
/// How old what is known may be: a token that was revoked in the store's file by
/// another process is good for so long.
const AGE_MAX: Duration = Duration::from_secs(5);

/// Reads tokens from the store and remembers them, so that no request waits for
/// the disk more than now and then.
pub struct Tokens {
    store: Arc<dyn Store>,
    known: ArcSwap<Vec<TokenRow>>,
    /// When they were read; held by who reads them.
    read: Mutex<Option<Instant>>,
}

impl Tokens {
    /// The tokens of a store; none are known before the first look.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: ArcSwap::default(), read: Mutex::default() }
    }

    /// Reads them again if what is known is old; one at a time, and the others wait
    /// for it: at the start nobody is known. If the store cannot be read, what is
    /// known stays.
    pub(super) async fn refresh(&self) {
        let mut read = self.read.lock().await;
        if read.is_some_and(|read| read.elapsed() < AGE_MAX) {
            return;
        }
        self.read_again().await;
        *read = Some(Instant::now());
    }

    /// Reads them again after a change; a look that began before it is over by then.
    async fn forget(&self) {
        let mut read = self.read.lock().await;
        self.read_again().await;
        *read = Some(Instant::now());
    }

    /// Reads them again and again: those who ask elsewhere than here wait for nobody.
    /// Never ends.
    pub async fn keep_fresh(&self) {
        loop {
            self.refresh().await;
            tokio::time::sleep(AGE_MAX).await;
        }
    }

    /// Whether somebody has a token of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.known.load().iter().any(|row| row.name == name)
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.known.load().is_empty()
    }

    async fn read_again(&self) {
        match self.store.tokens().await {
            Ok(rows) => self.known.store(Arc::new(rows)),
            Err(error) => tracing::warn!(%error, "tokens cannot be read; those known stay"),
        }
    }

    /// Whose token this is, and its role; `None` for nobody's.
    pub(super) fn whose(&self, secret: &str, now: SystemTime) -> Option<(String, TokenRole)> {
        let shown = secret_digest(secret);
        let known = self.known.load();
        // All are compared: how long it takes tells nothing.
        let mut found = None;
        for row in known.iter() {
            if bool::from(row.digest.as_bytes().ct_eq(shown.as_bytes())) && !row.is_over(now) {
                found = Some((row.name.clone(), row.role));
            }
        }
        found
    }

    /// All of them, without their digests.
    pub async fn all(&self) -> Result<Vec<TokenRow>> {
        self.store.tokens().await
    }

    /// Makes one.
    ///
    /// # Errors
    /// There is one of its name, there are too many, or it cannot be kept.
    pub async fn create(
        &self,
        name: &str,
        role: TokenRole,
        creator: &str,
        life: Option<Duration>,
    ) -> Result<NewToken> {
        let token = NewToken::make(name, role, creator, life, SystemTime::now())?;
        if self.store.tokens().await?.len() >= TOKENS_MAX {
            let message = format!("there are {TOKENS_MAX} tokens already; revoke one first");
            return Err(Error::new(ErrorCode::Conflict, message));
        }
        let until = token.row.expires.as_ref().map(|until| format!(" until {until}"));
        let action = format!("token {name} made: {role}{}", until.unwrap_or_default());
        let entry = NewEntry::of_gateway(creator.to_owned(), action);
        let entry = self.store.add_token(&token.row, entry).await?;
        recorded(&entry);
        self.forget().await;
        Ok(token)
    }

    /// Revokes one, from now on.
    ///
    /// # Errors
    /// There is none of this name, or the store cannot be written.
    pub async fn revoke(&self, name: &str, by: &str) -> Result<()> {
        let entry = NewEntry::of_gateway(by.to_owned(), format!("token {name} revoked"));
        let Some(entry) = self.store.remove_token(name, entry).await? else {
            let message = format!("there is no token {name:?}; `foreshadow token list` names them");
            return Err(Error::new(ErrorCode::NotFound, message));
        };
        recorded(&entry);
        self.forget().await;
        Ok(())
    }
}

/// Its hash is in the log: whoever keeps that can tell later whether the entry is
/// still there.
fn recorded(entry: &AuditEntry) {
    let AuditEntry { number, actor, action, hash, .. } = entry;
    tracing::info!(entry = number, actor, action, hash, "recorded");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[tokio::test]
    async fn a_token_is_good_from_its_making_to_its_end() {
        let store = Arc::new(Memory::default());
        let tokens = Tokens::new(Arc::clone(&store) as Arc<dyn Store>);
        let day = Duration::from_secs(86_400);
        let made = tokens.create("eve", TokenRole::Operator, "ann", Some(day)).await.unwrap();
        let now = SystemTime::now();
        let eve = Some(("eve".to_owned(), TokenRole::Operator));
        assert_eq!(tokens.whose(&made.secret, now), eve);
        assert_eq!(tokens.whose(&made.secret, now + 2 * day), None);
        assert_eq!(tokens.whose("fsh_00", now), None);
        let again = tokens.create("eve", TokenRole::Viewer, "ann", None).await;
        assert_eq!(again.err().unwrap().code(), ErrorCode::Conflict);
        tokens.revoke("eve", "ann").await.unwrap();
        assert_eq!(tokens.whose(&made.secret, now), None);
        assert_eq!(tokens.revoke("eve", "ann").await.unwrap_err().code(), ErrorCode::NotFound);
        let told = store.history(None, 9).await.unwrap();
        let told: Vec<_> = told.iter().map(|e| (e.actor.as_str(), e.action.as_str())).collect();
        let until = made.row.expires.unwrap();
        let begun = format!("token eve made: operator until {until}");
        assert_eq!(told, [("ann", "token eve revoked"), ("ann", begun.as_str())]);
    }

    #[tokio::test]
    async fn what_another_process_made_is_found_at_the_next_look() {
        let store = Arc::new(Memory::default());
        let tokens = Tokens::new(Arc::clone(&store) as Arc<dyn Store>);
        let now = SystemTime::now();
        let made = NewToken::make("ci", TokenRole::Viewer, "ann", None, now).unwrap();
        let entry = NewEntry::of_gateway("ann".into(), "token ci made".into());
        store.add_token(&made.row, entry).await.unwrap();
        assert_eq!(tokens.whose(&made.secret, now), None);
        tokens.refresh().await;
        assert!(tokens.whose(&made.secret, now).is_some());
    }
}
