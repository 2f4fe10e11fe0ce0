//! What a loaded version's answers are watched by: the request path counts, the
//! monitor reads, the registry hands over what `profile.json` says.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::error::Result;
use crate::telemetry::ArmRole;
use crate::telemetry::anomaly::{Anomalies, OddCounts, OddLog, OddRow, Oddness};
use crate::telemetry::capture::{Drawn, Tap};
use crate::telemetry::features::{FeatureCounts, FeatureSnapshot};
use crate::types::{
    Digest, ModelName, ModelSettings, Picker, PredictionId, Profile, ProfileBuilder, RowRarity,
    Signature, Tensor, VersionId,
};

/// The `profile.json` in a version's folder: none, one, or what is wrong with it.
pub type GivenProfile = Option<Result<Arc<Profile>, String>>;

/// One loaded version, as it is watched.
pub struct Watch {
    model: ModelName,
    version: VersionId,
    digest: Digest,
    signature: Signature,
    names: ArcSwap<Vec<String>>,
    wanted: AtomicBool,
    given: ArcSwap<GivenProfile>,
    active: ArcSwapOption<Active>,
    beside: ArcSwapOption<Beside>,
    /// Chooses the rows, of those that are learnt from as of those that are counted.
    picker: Picker,
    /// Rows that it passed over.
    passed_over: AtomicU64,
    tap: ArcSwapOption<Tap>,
    /// Requests that came while a profile was being learnt from another.
    busy: AtomicU64,
    anomalies: Anomalies,
}

/// What happens to the rows of answered requests.
enum Active {
    /// They are counted in a profile's bins.
    Counts(Counting),
    /// They are taken for a profile, until there are enough.
    Learns(Learner),
}

/// Counts by a profile. With another one it begins anew.
struct Counting {
    profile: Arc<Profile>,
    counts: FeatureCounts,
    odd: OddLog,
}

/// Counts once more, in the bins of another version that answers the same traffic.
struct Beside {
    counts: FeatureCounts,
    /// The other one's, so that a large request weighs the same in both.
    picker: Picker,
}

/// Takes rows for a profile.
struct Learner {
    builder: Mutex<Option<ProfileBuilder>>,
    rows: AtomicU64,
    wanted: u64,
    enough: AtomicBool,
}

impl Learner {
    fn new(builder: ProfileBuilder) -> Self {
        Self {
            rows: AtomicU64::new(0),
            wanted: number(builder.rows_max()),
            enough: AtomicBool::new(builder.is_full()),
            builder: Mutex::new(Some(builder)),
        }
    }

    /// Takes rows of a request, and returns how many were passed over; `None` if another
    /// one's were being taken.
    fn add(&self, inputs: &[Tensor], outputs: &[Tensor], picker: &Picker) -> Option<u64> {
        if self.enough.load(Relaxed) {
            return Some(0);
        }
        let mut builder = match self.builder.try_lock() {
            Ok(builder) => builder,
            Err(TryLockError::WouldBlock) => return None,
            // What a panic left behind is no profile.
            Err(TryLockError::Poisoned(_)) => return Some(0),
        };
        let Some(builder) = builder.as_mut() else { return Some(0) };
        let passed_over = builder.add_some(inputs, outputs, picker);
        self.rows.store(number(builder.rows()), Relaxed);
        self.enough.store(builder.is_full(), Relaxed);
        Some(number(passed_over))
    }
}

fn number(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// How far a profile is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// Rows that were taken.
    pub rows: u64,
    /// Rows that are.
    pub wanted: u64,
    /// Whether they are enough.
    pub enough: bool,
}

impl Watch {
    /// For a version with this content. Nothing is counted yet.
    #[must_use]
    pub fn new(
        model: ModelName,
        version: VersionId,
        digest: Digest,
        signature: Signature,
    ) -> Arc<Self> {
        let columns = ProfileBuilder::new(&signature, &[], 0).columns_count();
        Arc::new(Self {
            model,
            version,
            digest,
            signature,
            picker: Picker::new(columns),
            passed_over: AtomicU64::new(0),
            names: ArcSwap::default(),
            wanted: AtomicBool::new(false),
            given: ArcSwap::default(),
            active: ArcSwapOption::empty(),
            beside: ArcSwapOption::empty(),
            tap: ArcSwapOption::empty(),
            busy: AtomicU64::new(0),
            anomalies: Anomalies::default(),
        })
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &ModelName {
        &self.model
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> VersionId {
        self.version
    }

    /// What it takes and gives.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Its content.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How its owner wants it watched: what the columns of its input are called, whether
    /// rows are compared, which are called odd, and whether who asks may know of those.
    pub fn settle(&self, settings: &ModelSettings) {
        let names = &settings.features;
        if self.anomalies.settle(settings.odd_rows(), !settings.odd_untold)
            && let Some(Active::Counts(own)) = self.active.load().as_deref()
        {
            own.odd.forget();
        }
        if **self.names.load() != *names {
            self.names.store(Arc::new(names.clone()));
        }
        self.wanted.store(!settings.drift_off, Relaxed);
    }

    /// Whether its owner wants it watched.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Hands over what its folder has; nothing happens if that is what it had.
    pub fn give(&self, profile: GivenProfile) {
        if **self.given.load() != profile {
            self.given.store(Arc::new(profile));
        }
    }

    /// What its folder has.
    #[must_use]
    pub fn given(&self) -> Arc<GivenProfile> {
        self.given.load_full()
    }

    /// A request that was answered under this id: how odd its rows are, as
    /// [`Self::oddness`] has it, for who `asks`. Never waits.
    pub fn answered(
        &self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        id: &str,
        asks: bool,
    ) -> Option<Oddness> {
        if let Some(Beside { counts, picker }) = self.beside.load().as_deref() {
            // What is passed over is told by its own counts.
            counts.count(inputs, outputs, picker, None::<fn(usize, RowRarity)>);
        }
        let active = self.active.load();
        let (passed_over, oddness) = match active.as_deref()? {
            Active::Counts(own) => {
                let (passed_over, oddness) = self.count(own, (inputs, outputs), id, asks);
                (Some(passed_over), oddness)
            }
            Active::Learns(learner) => (learner.add(inputs, outputs, &self.picker), None),
        };
        match passed_over {
            None => drop(self.busy.fetch_add(1, Relaxed)),
            Some(0) => {}
            Some(rows) => drop(self.passed_over.fetch_add(rows, Relaxed)),
        }
        oddness
    }

    fn count(
        &self,
        own: &Counting,
        (inputs, outputs): (&[Tensor], &[Tensor]),
        id: &str,
        asks: bool,
    ) -> (u64, Option<Oddness>) {
        let Some(mut looked) = self.anomalies.look() else {
            let nobody = None::<fn(usize, RowRarity)>;
            return (own.counts.count(inputs, outputs, &self.picker, nobody), None);
        };
        let judge = |row, judged| looked.add(row, judged);
        let passed_over = own.counts.count(inputs, outputs, &self.picker, Some(judge));
        self.anomalies.count(&looked);
        own.odd.add(&own.profile, id, &looked);
        let may_know = asks && self.anomalies.may_be_told();
        (passed_over, may_know.then(|| looked.told(&own.profile)).flatten())
    }

    /// How odd a request's rows are by the version's profile; `None` without one, and where
    /// nobody looks for odd ones or who asks may not know. Of many rows it looks at some.
    /// Nothing is counted.
    #[must_use]
    pub fn oddness(&self, inputs: &[Tensor]) -> Option<Oddness> {
        let mut looked = self.anomalies.look().filter(|_| self.anomalies.may_be_told())?;
        let active = self.active.load();
        let Active::Counts(own) = active.as_deref()? else { return None };
        own.counts.look(inputs, &self.picker, |row, judged| looked.add(row, judged));
        looked.told(&own.profile)
    }

    /// Rows that were looked at and odd ones, since it is loaded: by all profiles.
    #[must_use]
    pub fn odd_counts(&self) -> OddCounts {
        self.anomalies.counts()
    }

    /// Those by its present profile, and its newest requests with odd rows, the newest
    /// first; `None` while it does not count.
    #[must_use]
    pub fn odd_rows(&self) -> Option<(OddCounts, Vec<OddRow>)> {
        let active = self.active.load();
        let Active::Counts(own) = active.as_deref()? else { return None };
        Some((own.odd.counts(), own.odd.newest()))
    }

    /// The share of usual rows that may be called odd; `None` if nothing is looked at.
    #[must_use]
    pub fn odd_level(&self) -> Option<f64> {
        self.anomalies.level()
    }

    /// Who takes copies of its answered requests from now on, if anybody does.
    pub fn capture_by(&self, tap: Option<Arc<Tap>>) {
        self.tap.store(tap);
    }

    /// Whether a request that it has answered under this id is to be offered to who stores
    /// a sample of such. Nothing is copied yet.
    pub fn draw(self: &Arc<Self>, role: ArmRole, id: PredictionId) -> Option<Drawn> {
        self.tap.load().as_ref()?.draw(self, role, id)
    }

    /// Counts in this profile's bins from now on.
    ///
    /// # Errors
    /// It does not fit the version.
    pub fn count_by(&self, profile: Arc<Profile>) -> Result<()> {
        let counts = FeatureCounts::new(&profile, &self.signature)?;
        let counting = Counting { profile, counts, odd: OddLog::default() };
        self.active.store(Some(Arc::new(Active::Counts(counting))));
        Ok(())
    }

    /// Takes the next `rows` rows for a profile.
    pub fn learn(&self, rows: usize) {
        let builder = ProfileBuilder::new(&self.signature, &self.names.load(), rows);
        let learner = Learner::new(builder);
        self.active.store(Some(Arc::new(Active::Learns(learner))));
    }

    /// Counts and learns nothing any more.
    pub fn rest(&self) {
        self.active.store(None);
    }

    /// Counts in the bins of `profile`, which is of `other`, too, from zero on, and of each
    /// request as many rows as that one does.
    ///
    /// # Errors
    /// The profile does not fit the version.
    pub fn count_beside(&self, profile: &Profile, other: &Self) -> Result<()> {
        let counts = FeatureCounts::new(profile, &self.signature)?;
        self.beside.store(Some(Arc::new(Beside { counts, picker: other.picker.alike() })));
        Ok(())
    }

    /// Counts in its own bins only.
    pub fn rest_beside(&self) {
        self.beside.store(None);
    }

    /// The counts in another version's bins, if it counts in such.
    #[must_use]
    pub fn counts_beside(&self) -> Option<FeatureSnapshot> {
        Some(self.beside.load().as_deref()?.counts.read())
    }

    /// By which profile it counts, if it does.
    #[must_use]
    pub fn profile(&self) -> Option<Arc<Profile>> {
        match self.active.load().as_deref()? {
            Active::Counts(own) => Some(Arc::clone(&own.profile)),
            Active::Learns(_) => None,
        }
    }

    /// The counts, if it counts.
    #[must_use]
    pub fn counts(&self) -> Option<FeatureSnapshot> {
        match self.active.load().as_deref()? {
            Active::Counts(own) => Some(own.counts.read()),
            Active::Learns(_) => None,
        }
    }

    /// The counts of its outputs ([`FeatureSnapshot::outputs`]) and by which profile, if it
    /// counts.
    #[must_use]
    pub fn output_counts(&self) -> Option<(Arc<Profile>, Vec<Vec<u64>>)> {
        match self.active.load().as_deref()? {
            Active::Counts(own) => Some((Arc::clone(&own.profile), own.counts.read_outputs())),
            Active::Learns(_) => None,
        }
    }

    /// How far it has learnt, if it learns.
    #[must_use]
    pub fn learnt(&self) -> Option<Learnt> {
        let active = self.active.load();
        let Active::Learns(learner) = active.as_deref()? else { return None };
        let (rows, enough) = (learner.rows.load(Relaxed), learner.enough.load(Relaxed));
        Some(Learnt { rows, wanted: learner.wanted, enough })
    }

    /// Takes what was learnt; nothing is counted until it is told by what.
    #[must_use]
    pub fn take_learnt(&self) -> Option<ProfileBuilder> {
        let active = self.active.load();
        let Active::Learns(learner) = active.as_deref()? else { return None };
        learner.builder.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Rows of large requests that were passed over, since it is loaded.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over.load(Relaxed)
    }

    /// Requests of which nothing was learnt, since another one's rows were being taken.
    #[must_use]
    pub fn busy(&self) -> u64 {
        self.busy.load(Relaxed)
    }
}

/// All versions that are loaded. It does not keep them.
#[derive(Default)]
pub struct Watches(Mutex<Vec<Weak<Watch>>>);

impl Watches {
    /// Adds one, if it is not there.
    pub fn add(&self, watch: &Arc<Watch>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        if !all.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(watch))) {
            all.push(Arc::downgrade(watch));
        }
    }

    /// Those that are still loaded.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Watch>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Data, Datatype, Dim, Share, TensorSpec, WhyOdd};

    fn watch() -> Arc<Watch> {
        let spec = TensorSpec::new("x", Datatype::Fp32, vec![Dim::Symbol("N".into())]);
        let signature = Signature::new(vec![spec.clone()], vec![spec]);
        let (model, version) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        Watch::new(model, version, Digest::new([7; 32]), signature)
    }

    fn x(values: &[f32]) -> Vec<Tensor> {
        vec![Tensor::new("x", vec![values.len()], Data::Fp32(values.to_vec())).unwrap()]
    }

    /// A thousand rows from 0 to 999.
    fn profile(watch: &Watch) -> Arc<Profile> {
        let mut builder = ProfileBuilder::new(watch.signature(), &[], 1000);
        let values: Vec<_> = (0..1000_u16).map(f32::from).collect();
        builder.add(&x(&values), &x(&values));
        let (model, digest) = (watch.model().clone(), watch.digest());
        Arc::new(builder.finish(model, digest, "x.csv", "2026-01-01T00:00:00Z").unwrap())
    }

    #[test]
    fn odd_rows_are_counted_and_the_newest_kept() {
        let watch = watch();
        watch.settle(&ModelSettings::default());
        assert_eq!(watch.oddness(&x(&[5.0])), None);
        watch.count_by(profile(&watch)).unwrap();
        for n in 0..40 {
            let told =
                watch.answered(&x(&[5.0, 1e6, 6.0, 2e6]), &x(&[0.0; 4]), &n.to_string(), true);
            // What is told is what was counted.
            assert_eq!(told.map(|told| (told.rows, told.odd, told.row)), Some((4, 2, 3)));
        }
        let counts = watch.odd_counts();
        assert_eq!((counts.rows, counts.odd()), (160, 80));
        let (by_profile, kept) = watch.odd_rows().unwrap();
        assert_eq!(by_profile, counts);
        // One request each, by its oddest row; the score in steps.
        assert_eq!(
            (kept.len(), &*kept[0].prediction_id, &*kept[31].prediction_id),
            (32, "39", "8")
        );
        assert_eq!(
            (kept[0].odd, kept[0].row, kept[0].why, kept[0].input.as_deref()),
            (2, 3, WhyOdd::Above, Some("x"))
        );
        assert_eq!(kept[0].score % 0.5, 0.0);
        // Who asks is told, and counts for nothing.
        let told = watch.oddness(&x(&[5.0, f32::NAN, 1e9, 1e6])).unwrap();
        assert_eq!((told.rows, told.odd, told.row), (4, 3, 2));
        assert_eq!(watch.oddness(&x(&[])), None);
        assert_eq!(watch.odd_counts(), counts);
        // With another profile what was odd by the former one is nobody's business.
        watch.count_by(profile(&watch)).unwrap();
        assert_eq!(watch.odd_rows(), Some((OddCounts::default(), vec![])));
        assert_eq!(watch.odd_counts(), counts);
        // Nor is what was odd at another level.
        watch.answered(&x(&[1e6]), &x(&[0.0]), "id", false);
        let percent = |share| Share::from_percent(share).unwrap();
        let odd_rows = |share| ModelSettings { odd_rows: Some(share), ..ModelSettings::default() };
        watch.settle(&odd_rows(percent(0.5)));
        assert_eq!(watch.odd_rows(), Some((OddCounts::default(), vec![])));
        // Who may not know is told nothing; it is counted all the same.
        watch.settle(&ModelSettings { odd_untold: true, ..odd_rows(percent(0.5)) });
        assert_eq!(watch.answered(&x(&[1e6]), &x(&[0.0]), "id", true), None);
        assert_eq!(watch.oddness(&x(&[1e6])), None);
        let counts = watch.odd_counts();
        assert_eq!((counts.rows, watch.odd_rows().unwrap().0.odd()), (162, 1));
        watch.settle(&odd_rows(Share::ZERO));
        watch.answered(&x(&[1e6]), &x(&[0.0]), "id", false);
        assert_eq!((watch.oddness(&x(&[1e6])), watch.odd_counts()), (None, counts));
    }

    #[test]
    fn it_learns_a_profile_and_counts_by_it() {
        let watch = watch();
        watch.answered(&x(&[9.0]), &x(&[9.0]), "id", false);
        watch.learn(4);
        for value in [1.0, 2.0, 3.0] {
            watch.answered(&x(&[value]), &x(&[0.0]), "id", false);
        }
        assert_eq!(watch.learnt(), Some(Learnt { rows: 3, wanted: 4, enough: false }));
        watch.answered(&x(&[4.0, 100.0]), &x(&[0.0, 0.0]), "id", false);
        assert_eq!(watch.learnt(), Some(Learnt { rows: 4, wanted: 4, enough: true }));
        let builder = watch.take_learnt().unwrap();
        watch.answered(&x(&[5.0]), &x(&[0.0]), "id", false);
        let (model, digest) = (watch.model().clone(), watch.digest());
        let profile = builder.finish(model, digest, "live traffic", "2026-01-01T00:00:00Z");
        let profile = profile.unwrap();
        assert_eq!((profile.rows, profile.inputs[0].counts.rows()), (4, 4));
        watch.count_by(Arc::new(profile)).unwrap();
        watch.answered(&x(&[1.0, 50.0]), &x(&[0.0, 0.0]), "id", false);
        let counts = watch.counts().unwrap();
        assert_eq!(counts.rows, 2);
        assert_eq!(counts.inputs[0].iter().sum::<u64>(), 2);
        let (by, outputs) = watch.output_counts().unwrap();
        assert_eq!((by.rows, outputs), (4, counts.outputs));
        watch.rest();
        assert!(watch.counts().is_none() && watch.learnt().is_none());
        assert!(watch.output_counts().is_none());
    }

    #[test]
    fn large_requests_weigh_the_same_where_it_learns_and_where_it_counts() {
        let watch = watch();
        // One large request of ones to each ten small ones of zeros.
        let requests = |n: usize| {
            for i in 0..n {
                let values = if i % 11 == 0 { vec![1.0; 500] } else { vec![0.0; 10] };
                watch.answered(&x(&values), &x(&values), "id", false);
            }
        };
        watch.learn(164 * 10);
        requests(110);
        assert!(watch.learnt().unwrap().enough, "{:?}", watch.learnt());
        assert_eq!(watch.passed_over(), 10 * (500 - 64));
        let builder = watch.take_learnt().unwrap();
        let (model, digest) = (watch.model().clone(), watch.digest());
        let profile = builder.finish(model, digest, "live traffic", "2026-01-01T00:00:00Z");
        let profile = Arc::new(profile.unwrap());
        let learnt = profile.inputs[0].counts.by_place();
        watch.count_by(Arc::clone(&profile)).unwrap();
        requests(110);
        assert_eq!(watch.counts().unwrap().inputs[0], learnt);
        // Since it is loaded, whatever it counts by.
        watch.count_by(profile).unwrap();
        assert_eq!(watch.passed_over(), 20 * (500 - 64));
    }

    #[test]
    fn it_counts_beside_another_whatever_it_does_by_itself() {
        let (champion, canary) = (watch(), watch());
        champion.learn(2);
        champion.answered(&x(&[0.0, 9.0]), &x(&[0.0, 9.0]), "id", false);
        let learnt = champion.take_learnt().unwrap();
        let (model, digest) = (champion.model().clone(), champion.digest());
        let profile = learnt.finish(model, digest, "live traffic", "2026-01-01T00:00:00Z").unwrap();
        assert!(canary.counts_beside().is_none());
        canary.count_beside(&profile, &champion).unwrap();
        // Without a profile, while it learns, and as it counts.
        canary.answered(&x(&[1.0]), &x(&[100.0]), "id", false);
        canary.learn(1);
        canary.answered(&x(&[2.0]), &x(&[100.0]), "id", false);
        canary.count_by(Arc::new(profile.clone())).unwrap();
        canary.answered(&x(&[3.0; 100]), &x(&[100.0; 100]), "id", false);
        let beside = canary.counts_beside().unwrap();
        assert_eq!((beside.rows, canary.counts().unwrap().rows), (66, 64));
        assert_eq!(crate::types::Counts::from_places(&beside.outputs[0]).above, 66);
        // Its own counts have told it.
        assert_eq!(canary.passed_over(), 36);
        canary.count_beside(&profile, &champion).unwrap();
        assert_eq!(canary.counts_beside().unwrap().rows, 0);
        canary.rest_beside();
        assert!(canary.counts_beside().is_none());
        let mut other = profile;
        other.inputs[0].tensor = "z".into();
        assert!(canary.count_beside(&other, &champion).is_err());
    }

    #[test]
    fn of_wide_rows_it_counts_as_many_as_the_one_beside_it() {
        let spec = |name: &str, width| {
            TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(width)])
        };
        let of = |outputs: Vec<TensorSpec>| {
            let signature = Signature::new(vec![spec("x", 1)], outputs);
            let (model, version) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
            Watch::new(model, version, Digest::new([7; 32]), signature)
        };
        let (narrow, wide) = (of(vec![spec("y", 1)]), of(vec![spec("y", 1), spec("z", 255)]));
        let tensor = |name: &str, width| {
            Tensor::new(name, vec![64, width], Data::Fp32(vec![0.0; 64 * width])).unwrap()
        };
        narrow.learn(64);
        narrow.answered(&[tensor("x", 1)], &[tensor("y", 1)], "id", false);
        let learnt = narrow.take_learnt().unwrap();
        let (model, digest) = (narrow.model().clone(), narrow.digest());
        let profile = learnt.finish(model, digest, "live traffic", "2026-01-01T00:00:00Z").unwrap();
        wide.count_by(Arc::new(profile.clone())).unwrap();
        wide.count_beside(&profile, &narrow).unwrap();
        wide.answered(&[tensor("x", 1)], &[tensor("y", 1), tensor("z", 255)], "id", false);
        assert_eq!((wide.counts().unwrap().rows, wide.counts_beside().unwrap().rows), (15, 64));
    }

    #[test]
    fn what_was_given_already_is_not_given_again() {
        let watch = watch();
        let text = || Some(Err("profile.json: EOF".to_owned()));
        watch.give(text());
        let given = watch.given();
        watch.give(text());
        assert!(Arc::ptr_eq(&given, &watch.given()));
        watch.give(None);
        assert!(watch.given().is_none());
    }

    #[test]
    fn the_list_keeps_no_version() {
        let watches = Watches::default();
        let (one, two) = (watch(), watch());
        watches.add(&one);
        watches.add(&one);
        watches.add(&two);
        assert_eq!(watches.all().len(), 2);
        drop(one);
        assert_eq!(watches.all().len(), 1);
    }
}
