//! The part of a request's life that all forms of inference share.

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::ids::Id;
use crate::protocol::json::{Token, Tokens, unescape};
use crate::protocol::message::short;
use crate::protocol::oddness::oddness;
use crate::protocol::offload::{Crowded, LARGE_BYTES};
use crate::protocol::route::NoRoute;
use crate::protocol::{Service, caught, guarded};
use crate::routing::{Answer, Assignment, Plan, Router};
use crate::telemetry::{Answered as Times, ArmStats, Drawn, Groups, Offered};
use crate::types::{GROUPINGS_MAX, GroupSource, LabelSettings, OTHER, Role, Tensor, VersionId};

/// What the split goes by.
const ROUTING_KEY: HeaderName = HeaderName::from_static("x-routing-key");
/// The role that the client insists on.
const ROLE: HeaderName = HeaderName::from_static("x-foreshadow-role");
/// The time that a request may take, as people write durations.
const TIMEOUT: HeaderName = HeaderName::from_static("x-foreshadow-timeout");

/// Asks for, and tells, how odd the request's rows are.
pub(super) const ANOMALY: HeaderName = HeaderName::from_static("x-foreshadow-anomaly");

/// What a request asks for, apart from its tensors.
pub(super) struct Ask<'a> {
    /// The plan, loaded once for this request.
    pub(super) plan: &'a Arc<Plan>,
    /// What came beside the body.
    pub(super) headers: &'a HeaderMap,
    /// The version that the client insists on.
    pub(super) version: Option<VersionId>,
    /// The role that the client insists on.
    pub(super) role: Option<Role>,
    /// What the split goes by.
    pub(super) key: Option<Cow<'a, [u8]>>,
    /// A parameter of its body, as a routing key is read.
    pub(super) parameter: &'a dyn Fn(&str) -> Option<Cow<'a, [u8]>>,
    /// When the answer is of no use any more.
    pub(super) deadline: Option<Instant>,
    /// When the request arrived.
    pub(super) at: Instant,
    /// When its body was begun to be read: all of it had come.
    pub(super) read: Instant,
    /// What is wrong with the body's grammar, as far as it has not been read
    /// yet. It takes a while, and is asked when something else is wrong.
    pub(super) grammar: &'a dyn Fn() -> Option<Error>,
}

/// A failure, and how it is to be counted and answered.
pub(super) struct Failed {
    /// What failed.
    pub(super) error: Error,
    /// Where it is counted.
    pub(super) counted: Counted,
    /// Methods that the path has, if the method was wrong.
    pub(super) allow: Option<&'static str>,
}

/// Where a failure is counted.
pub(super) enum Counted {
    /// Not yet: no version had been chosen.
    Rejected,
    /// On this version, already.
    OnVersion(Box<Assignment>),
    /// Nowhere: a probe was told no, which is an answer.
    Nowhere,
}

impl Failed {
    /// A failure that the version has been told of.
    fn on_version(error: Error, assignment: Assignment) -> Self {
        Self { error, counted: Counted::OnVersion(Box::new(assignment)), allow: None }
    }

    /// A probe's no.
    pub(super) const fn probe(error: Error) -> Self {
        Self { error, counted: Counted::Nowhere, allow: None }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, counted: Counted::Rejected, allow: None }
    }
}

impl From<NoRoute> for Failed {
    fn from(NoRoute { error, allow }: NoRoute) -> Self {
        Self { error, counted: Counted::Rejected, allow }
    }
}

/// What an answer is encoded from.
pub(super) struct Answered<'a> {
    /// Who answered.
    pub(super) assignment: &'a Assignment,
    /// The outputs, in the signature's order.
    pub(super) outputs: &'a [Tensor],
    /// The answer's id.
    pub(super) prediction_id: &'a str,
}

/// What was learnt about the form of a request, for its answer.
pub(super) trait Form: Send + 'static {
    /// What an answer is written as.
    type Reply: Signed + Send + 'static;

    /// Writes the answer.
    fn encode(&self, answered: &Answered<'_>) -> Result<Self::Reply>;

    /// Whether writing so many bytes of outputs takes so long that it is done
    /// elsewhere.
    fn is_large(&self, output_bytes: usize) -> bool {
        output_bytes > LARGE_BYTES
    }
}

/// A reply that may tell, beside its body, who answered.
pub(super) trait Signed {
    /// Tells it.
    fn sign(&mut self, assignment: &Assignment, prediction_id: Id);

    /// Tells how odd the request's rows are, where it has room for that.
    fn tell(&mut self, oddness: HeaderValue);
}

/// A request on its version, which is counted once: with its outcome, or as
/// cancelled when it is dropped before it has one, because the client left.
struct InFlight {
    stats: Arc<ArmStats>,
    at: Instant,
    read: Instant,
    done: bool,
}

impl InFlight {
    /// It was answered: its inputs were there at `decoded`, and it waited and ran
    /// for so long.
    fn answered(mut self, decoded: Instant, ran: Duration) {
        self.done = true;
        let (arrived, read, written) = (self.at, self.read, Instant::now());
        self.stats.answered(Times { arrived, read, decoded, ran, written });
    }

    fn failed(mut self, code: ErrorCode) {
        self.done = true;
        self.stats.failed(code, self.at.elapsed());
    }

    /// It was none of the version's.
    fn forget(mut self) {
        self.done = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.done {
            self.stats.failed(ErrorCode::Cancelled, self.at.elapsed());
        }
    }
}

/// Tells the judge of a request whose client left while it waited or ran.
struct Waiting<'a> {
    assignment: &'a Assignment,
    since: Instant,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.assignment.left(self.since.elapsed());
        }
    }
}

/// A request on its version, decoded.
pub(super) struct Accepted<F> {
    assignment: Assignment,
    inputs: Vec<Tensor>,
    form: F,
    deadline: Option<Instant>,
    in_flight: InFlight,
    groups: Groups,
    /// Whether the reply is to tell how odd its rows are.
    asks_oddness: bool,
}

impl<F> Accepted<F> {
    /// The same request, with its form as one of several.
    pub(super) fn with<G>(self, form: impl FnOnce(F) -> G) -> Accepted<G> {
        let Self { assignment, inputs, form: own, deadline, in_flight, groups, asks_oddness } =
            self;
        let form = form(own);
        Accepted { assignment, inputs, form, deadline, in_flight, groups, asks_oddness }
    }
}

/// Assigns a version and decodes the inputs for it. A body that is malformed is
/// no version's fault, even if only the decoding shows it.
pub(super) fn accept<F>(
    router: &Router,
    ask: Ask<'_>,
    decode: impl FnOnce(&Assignment) -> Result<(Vec<Tensor>, F)>,
) -> Result<Accepted<F>, Failed> {
    let Ask { plan, headers, version, role, key, parameter, deadline, at, read, grammar } = ask;
    let assigned = plan.assign(version, role, key.as_deref());
    let assignment = assigned.map_err(|error| grammar().unwrap_or(error))?;
    let in_flight = InFlight { stats: Arc::clone(&assignment.arm().stats), at, read, done: false };
    // Before its body costs anything more: it may have waited for this thread.
    let passed = || Error::new(ErrorCode::DeadlineExceeded, "the request's timeout passed");
    let late = deadline.is_some_and(|deadline| deadline <= read);
    let may_run = if late { Err(passed()) } else { router.check(&assignment, deadline) };
    if let Err(error) = may_run {
        in_flight.failed(error.code());
        assignment.failed(error.code());
        return Err(Failed::on_version(error, assignment));
    }
    let decoded = caught(|| {
        let (inputs, form) = decode(&assignment)?;
        let inputs = assignment.version().signature().arrange(inputs)?;
        plan.settings.check_rows(&inputs)?;
        Ok((inputs, form))
    });
    match decoded {
        Ok((inputs, form)) => {
            let groups = groups(plan.settings.labels.as_deref(), headers, parameter);
            let asks_oddness = headers.contains_key(ANOMALY);
            Ok(Accepted { assignment, inputs, form, deadline, in_flight, groups, asks_oddness })
        }
        Err(error) => match grammar() {
            Some(malformed) => {
                in_flight.forget();
                Err(malformed.into())
            }
            None => {
                in_flight.failed(error.code());
                assignment.failed(error.code());
                Err(Failed::on_version(error, assignment))
            }
        },
    }
}

/// The groups that a request's headers and parameters tell.
fn groups<'a>(
    labels: Option<&LabelSettings>,
    headers: &HeaderMap,
    parameter: &dyn Fn(&str) -> Option<Cow<'a, [u8]>>,
) -> Groups {
    let mut groups = [OTHER; GROUPINGS_MAX];
    let groupings = labels.map(|labels| &labels.groupings[..]).unwrap_or_default();
    for (group, grouping) in groups.iter_mut().zip(groupings) {
        let value = match &grouping.source {
            GroupSource::Header(name) => headers.get(name).map(|v| Cow::Borrowed(v.as_bytes())),
            GroupSource::Parameter(name) => parameter(name),
            GroupSource::Column(_) => None,
        };
        if let Some(value) = value {
            *group = grouping.group(&value);
        }
    }
    groups
}

impl Service {
    /// Runs a request, encodes its answer, and hands copies to the shadows and to who
    /// stores a sample.
    pub(super) async fn answer<F: Form>(
        &self,
        accepted: Accepted<F>,
        id: Id,
        request_id: &HeaderValue,
    ) -> Result<F::Reply, Failed> {
        let Accepted { assignment, inputs, form, deadline, in_flight, groups, asks_oddness } =
            accepted;
        let decoded = Instant::now();
        let outcome: Result<_> = {
            let mut waiting = Waiting { assignment: &assignment, since: decoded, over: false };
            let work = pin!(async {
                let answer = self.run(&assignment, inputs, deadline, decoded).await?;
                self.encode(&assignment, answer, form, id).await
            });
            let outcome = guarded(work).await;
            waiting.over = true;
            outcome
        };
        match outcome {
            Ok((mut reply, answer)) => {
                in_flight.answered(decoded, answer.queue + answer.inference);
                let named = (id.as_str(), id.value());
                let told = assignment.answered(&answer, named, groups, asks_oddness);
                let drawn = assignment.draw(id.value()).map(|drawn| (drawn, request_id.clone()));
                reply.sign(&assignment, id);
                if asks_oddness {
                    reply.tell(oddness(told));
                }
                self.copy_later(assignment, answer, id, drawn);
                Ok(reply)
            }
            Err(error) => {
                in_flight.failed(error.code());
                assignment.failed(error.code());
                Err(Failed::on_version(error, assignment))
            }
        }
    }

    /// Encodes an answer; a large one elsewhere.
    async fn encode<F: Form>(
        &self,
        assignment: &Assignment,
        answer: Answer,
        form: F,
        id: Id,
    ) -> Result<(F::Reply, Answer)> {
        let bytes: usize = answer.outputs.iter().map(Tensor::byte_len).sum();
        let large = form.is_large(bytes);
        let encode = move |assignment: &Assignment, answer: Answer| {
            let (outputs, prediction_id) = (&answer.outputs[..], id.as_str());
            let reply = form.encode(&Answered { assignment, outputs, prediction_id })?;
            Ok((reply, answer))
        };
        if !large {
            return encode(assignment, answer);
        }
        let assignment = assignment.clone();
        self.offload.run(bytes, Crowded::Here, move || encode(&assignment, answer)).await?
    }

    /// Hands copies to the shadows, and to who stores them what was drawn for that with
    /// its reply's request id, once the reply is written. hyper writes it before the
    /// connection's task gives its thread back, and a task spawned here stands behind that.
    fn copy_later(
        &self,
        assignment: Assignment,
        answer: Answer,
        id: Id,
        drawn: Option<(Drawn, HeaderValue)>,
    ) {
        let shadowed = assignment.has_shadows();
        if !shadowed && drawn.is_none() {
            return;
        }
        let router = Arc::clone(&self.router);
        tokio::spawn(async move {
            let answer = match drawn {
                Some((drawn, request_id)) => offer(drawn, answer, (&request_id, id), shadowed),
                None => Some(answer),
            };
            if let Some(answer) = answer {
                router.copy_to_shadows(&assignment, answer, id.as_str());
            }
        });
    }

    /// Runs from `now` on, and gives up at the deadline: what still waits then is
    /// dropped unrun.
    async fn run(
        &self,
        assignment: &Assignment,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Answer> {
        let run = self.router.infer(assignment, inputs, deadline);
        let Some(deadline) = deadline else { return run.await };
        let passed = || Error::new(ErrorCode::DeadlineExceeded, "the request's timeout passed");
        if now >= deadline {
            return Err(passed());
        }
        within(pin!(run), || deadline.into()).await.unwrap_or_else(|| Err(passed()))
    }
}

/// Offers an answer to who stores it, with the ids of its reply; gives it back if it is
/// needed elsewhere: only then are its tensors cloned.
fn offer(
    drawn: Drawn,
    answer: Answer,
    (request_id, id): (&HeaderValue, Id),
    elsewhere: bool,
) -> Option<Answer> {
    let (request_id, prediction_id) = (request_id.as_bytes(), id.as_str());
    if elsewhere {
        let (inputs, outputs) = ((&answer.inputs).into(), (&answer.outputs).into());
        drawn.offer(Offered { inputs, outputs, request_id, prediction_id });
        return Some(answer);
    }
    let (inputs, outputs) = (answer.inputs.into(), answer.outputs.into());
    drawn.offer(Offered { inputs, outputs, request_id, prediction_id });
    None
}

/// Waits for `work` until the deadline; `None` if that came first. What is done
/// at once needs no timer. Else the task gives its thread back before it asks
/// again: `work` may have yielded, to let other tasks go first.
pub(super) async fn within<F: Future>(
    mut work: Pin<&mut F>,
    deadline: impl FnOnce() -> tokio::time::Instant,
) -> Option<F::Output> {
    if let Poll::Ready(done) = once(work.as_mut()).await {
        return Some(done);
    }
    let mut timer = pin!(tokio::time::sleep_until(deadline()));
    let mut asked = true;
    std::future::poll_fn(|context| {
        if !std::mem::take(&mut asked)
            && let Poll::Ready(done) = work.as_mut().poll(context)
        {
            return Poll::Ready(Some(done));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Polls once, and says what came of it.
pub(super) async fn once<F: Future>(mut work: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await
}

/// The deadline of a request that allows `micros` from its arrival, or
/// `default` where it says nothing (or 0); none beyond the clock.
pub(super) fn deadline(at: Instant, micros: Option<u64>, default: Duration) -> Option<Instant> {
    let own = micros.filter(|micros| *micros > 0).map(Duration::from_micros);
    at.checked_add(own.unwrap_or(default))
}

/// The routing key that a header gives.
pub(super) fn header_key(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(ROUTING_KEY).map(HeaderValue::as_bytes).filter(|key| !key.is_empty())
}

/// The time that a header allows, in microseconds.
pub(super) fn header_timeout(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let time = humantime::parse_duration(text).map_err(|_| {
        Error::invalid(format!(
            "header X-Foreshadow-Timeout: expected a duration such as \"250ms\", got {:?}",
            short(text)
        ))
    })?;
    Ok(Some(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
}

/// The role that a header insists on.
pub(super) fn header_role(headers: &HeaderMap) -> Result<Option<Role>> {
    let Some(value) = headers.get(ROLE) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    role(text).map(Some).map_err(|error| error.context("header X-Foreshadow-Role"))
}

/// A role by its name.
pub(super) fn role(name: &str) -> Result<Role> {
    let all = [Role::Champion, Role::Canary, Role::Shadow];
    all.into_iter().find(|role| role.as_str() == name).ok_or_else(|| {
        Error::invalid(format!("role {:?}: expected champion, canary or shadow", short(name)))
    })
}

/// The routing key that a JSON scalar gives. Numbers count by their value, so
/// that `42`, `42.0` and a binary 42 are one key.
pub(super) fn scalar_key(token: Token<'_>) -> Result<Option<Cow<'_, [u8]>>> {
    let text = match token {
        Token::String(inner) => unescape(inner).map_err(Error::invalid)?,
        Token::Word("null") | Token::End => return Ok(None),
        Token::Word(word) => number_key(word),
        other => {
            return Err(Error::invalid(format!(
                "routing key: expected a string or a number, got {}",
                other.kind()
            )));
        }
    };
    let bytes = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Ok(Some(bytes).filter(|key| !key.is_empty()))
}

/// The one spelling of a number. Whole numbers are exact.
fn number_key(word: &str) -> Cow<'_, str> {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return Cow::Borrowed(word);
    }
    match word.parse::<f64>() {
        // `-0` is 0.
        Ok(0.0) => Cow::Borrowed("0"),
        Ok(value) if word.contains(['.', 'e', 'E']) => Cow::Owned(value.to_string()),
        _ => Cow::Borrowed(word),
    }
}

/// The routing key among the features of the first row, in nested or flat
/// JSON numbers.
pub(super) fn nth_key<'a>(mut tokens: Tokens<'a>, n: usize) -> Result<Option<Cow<'a, [u8]>>> {
    let mut left = n;
    loop {
        match tokens.next() {
            Token::End | Token::ObjectOpen => return Ok(None),
            Token::ArrayOpen | Token::ArrayClose | Token::ObjectClose => {}
            scalar if left == 0 => return scalar_key(scalar),
            _ => left -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_one_key() {
        let key = |word| scalar_key(Token::Word(word)).unwrap().map(Cow::into_owned);
        for (word, expected) in [
            ("42", "42"),
            ("42.0", "42"),
            ("4.2e1", "42"),
            ("-7", "-7"),
            ("-0.0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("true", "true"),
        ] {
            assert_eq!(key(word), Some(expected.as_bytes().to_vec()), "{word}");
        }
        assert_eq!(key("null"), None);
        assert_eq!(scalar_key(Token::String("")).unwrap(), None);
        assert_eq!(scalar_key(Token::String("\\u0061")).unwrap().unwrap(), &b"a"[..]);
        let error = scalar_key(Token::ArrayOpen).unwrap_err();
        assert_eq!(error.message(), "routing key: expected a string or a number, got an array");
    }

    #[test]
    fn the_nth_number_is_found_in_any_nesting() {
        for text in ["[[1,2,3],[4,5,6]]", "[1,2,3,4,5,6]"] {
            let key = |n| nth_key(Tokens::new(text), n).unwrap();
            assert_eq!(key(1).unwrap(), &b"2"[..]);
            assert_eq!(key(6), None);
        }
    }

    #[test]
    fn a_header_may_say_how_long_it_may_take() {
        let header = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            header_timeout(&HeaderMap::from_iter([(TIMEOUT, value)]))
        };
        assert_eq!(header_timeout(&HeaderMap::new()).unwrap(), None);
        assert_eq!(header("250ms").unwrap(), Some(250_000));
        for text in ["250", "soon", ""] {
            let message = header(text).unwrap_err().message().to_owned();
            assert!(message.contains("\"250ms\"") && message.contains(text), "{message}");
        }
    }

    #[test]
    fn a_request_without_a_timeout_gets_the_default() {
        let at = Instant::now();
        let default = Duration::from_secs(7);
        assert_eq!(deadline(at, None, default), Some(at + default));
        assert_eq!(deadline(at, Some(0), default), Some(at + default));
        assert_eq!(deadline(at, Some(5), default), Some(at + Duration::from_micros(5)));
        // Must not panic, whatever the clock can hold.
        let _ = deadline(at, Some(u64::MAX), default);
    }

    #[tokio::test]
    async fn what_yields_lets_others_go_first() {
        let came = std::rc::Rc::new(std::cell::Cell::new(false));
        let local = tokio::task::LocalSet::new();
        let far = || tokio::time::Instant::now() + Duration::from_secs(600);
        let seen = local.run_until(async {
            let other = std::rc::Rc::clone(&came);
            tokio::task::spawn_local(async move { other.set(true) });
            let work = pin!(async {
                tokio::task::yield_now().await;
                came.get()
            });
            within(work, far).await
        });
        assert_eq!(seen.await, Some(true));
    }

    #[tokio::test]
    async fn a_deadline_ends_what_does_not_come() {
        let now = tokio::time::Instant::now;
        assert_eq!(within(pin!(std::future::pending::<()>()), now).await, None);
        assert_eq!(within(pin!(async { 7 }), now).await, Some(7));
    }
}
