//! All models that the process knows.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use crate::routing::Plan;
use crate::types::ModelName;

/// The one place where a model's plan stands: control publishes, requests load.
pub struct Slot {
    plan: ArcSwap<Plan>,
}

impl Slot {
    /// A slot with its first plan.
    #[must_use]
    pub fn new(plan: Arc<Plan>) -> Self {
        Self { plan: ArcSwap::new(plan) }
    }

    /// The present plan, owned. Lock-free.
    #[must_use]
    pub fn load(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Swaps in a new plan and returns the former, whose requests go on. Only
    /// the registry's manager calls this.
    #[must_use]
    pub fn publish(&self, plan: Arc<Plan>) -> Arc<Plan> {
        self.plan.swap(plan)
    }
}

/// The keys are the owner's folders; nobody else can fill it.
type Slots = HashMap<ModelName, Arc<Slot>, RandomState>;

/// Name → slot.
#[derive(Default)]
pub struct Catalog {
    slots: ArcSwap<Slots>,
}

impl Catalog {
    /// The slot of a model.
    #[must_use]
    pub fn slot(&self, model: &str) -> Option<Arc<Slot>> {
        let slots = self.slots.load();
        slots.get(model).cloned()
    }

    /// The only model's name, if there is exactly one.
    #[must_use]
    pub fn only(&self) -> Option<ModelName> {
        let slots = self.slots.load();
        let mut names = slots.keys();
        names.next().filter(|_| slots.len() == 1).cloned()
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<ModelName> {
        let mut names: Vec<_> = self.slots.load().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Adds a model; called by the registry's manager only.
    pub fn insert(&self, model: &ModelName, slot: &Arc<Slot>) {
        self.slots.rcu(|slots| {
            let mut slots = Slots::clone(slots);
            slots.insert(model.clone(), Arc::clone(slot));
            slots
        });
    }

    /// Removes a model; called by the registry's manager only.
    pub fn remove(&self, model: &ModelName) {
        self.slots.rcu(|slots| {
            let mut slots = Slots::clone(slots);
            slots.remove(model);
            slots
        });
    }
}
