//! What a look at the repository means for what the manager knows.

use crate::registry::manager::Manager;
use crate::registry::manager::model::{Entry, Model, Owed};
use crate::registry::settings::Start;
use crate::registry::watch::{ModelSnapshot, Snapshot};
use crate::registry::{State, Unrecorded};
use crate::types::{ModelName, VersionId};

impl Manager {
    /// Takes a look at the whole repository.
    pub(super) async fn found(&mut self, snapshot: Snapshot) {
        let known = self.models.keys().filter(|name| !snapshot.models.contains_key(*name));
        let gone: Vec<_> = known.cloned().collect();
        for name in gone {
            self.model_is_gone(&name);
            self.advance(&name).await;
        }
        for (name, found) in snapshot.models {
            if !self.models.contains_key(&name) && !self.meet(&name).await {
                continue;
            }
            self.model_found(&name, found);
            self.advance(&name).await;
        }
        if self.waited_for.is_none() {
            self.waited_for = Some(self.places().collect());
            self.prune().await;
        }
    }

    /// A model that we see for the first time.
    async fn meet(&mut self, name: &ModelName) -> bool {
        match self.store.wanted(name).await {
            Ok(wanted) => {
                tracing::info!(model = %name, "model found");
                let newer = self.unrecorded.iter().position(|change| change.model == *name);
                let newer = newer.map(|at| self.unrecorded.swap_remove(at));
                let in_force = newer.as_ref().map(|change| change.wanted.clone());
                let mut model = Model::new(name.clone(), in_force.or(wanted));
                if let Some(Unrecorded { entry, wanted, .. }) = newer {
                    model.owe(Owed { entry, wanted, unknown: false });
                }
                self.models.insert(name.clone(), model);
                true
            }
            Err(error) => {
                // Without knowing what was wanted, anything could be wrong.
                tracing::error!(model = %name, %error, detail = error.detail(),
                    "what is wanted cannot be read; the model is not loaded");
                false
            }
        }
    }

    fn model_is_gone(&mut self, name: &ModelName) {
        let Some(model) = self.models.get_mut(name) else { return };
        if !model.gone {
            tracing::warn!(model = %name, "the model's folder is gone");
        }
        model.gone = true;
        model.folder_problems.clear();
        model.file_problem = None;
        model.entries.values_mut().for_each(|entry| entry.present = false);
    }

    fn model_found(&mut self, name: &ModelName, found: ModelSnapshot) {
        let Some(model) = self.models.get_mut(name) else { return };
        let first_look = model.file.is_none() && model.entries.is_empty();
        model.gone = false;
        model.folder_problems = found.problems;
        match found.file {
            Ok(file) => {
                model.file_problem = None;
                if model.file.as_ref().is_some_and(|known| known.settings != file.settings) {
                    model.causes.push("settings changed".to_owned());
                }
                let known = model.file.as_ref().map(|known| &known.not_taken[..]);
                for what in file
                    .not_taken
                    .iter()
                    .filter(|what| !known.is_some_and(|known| known.contains(what)))
                {
                    tracing::warn!(model = %name, what, "config.pbtxt: not taken");
                }
                if model.wanted.is_none() {
                    model.start.clone_from(&file.start);
                }
                model.file = Some(file);
            }
            Err(problem) => {
                if model.file_problem.as_ref() != Some(&problem) {
                    tracing::warn!(model = %name, %problem, "its settings are not taken");
                }
                model.file_problem = Some(problem);
            }
        }
        if !found.partial {
            let is_there = |version| found.versions.contains_key(version);
            let absent = model.entries.iter_mut().filter(|(version, _)| !is_there(version));
            absent.for_each(|(_, entry)| entry.present = false);
        }
        for (version, seen) in found.versions {
            // Before the first look the process was not there, but the store was.
            let came = model.wanted.as_ref().is_some_and(|wanted| match first_look {
                true => wanted.newest.is_some_and(|newest| version > newest),
                false => true,
            });
            let arrived = came && !model.start.as_ref().is_some_and(|start| names(start, version));
            let entry = model.entries.entry(version).or_insert_with(|| {
                self.tickets += 1;
                // The number has a new life: the former one is history.
                model.retired.retain(|view| view.version != version);
                self.metrics.set_state(name, version, None, "discovered");
                tracing::info!(model = %name, %version, "version found");
                let entry = Entry::new(self.tickets, seen.files.clone(), seen.wholeness, arrived);
                let wanted = model.wanted.as_ref().filter(|_| first_look);
                let expected = wanted.and_then(|wanted| wanted.pinned.get(&version).copied());
                Entry { expected, ..entry }
            });
            if !entry.present && entry.state == State::Ready {
                entry.reason = None;
            }
            entry.present = true;
            entry.files = seen.files;
            entry.wholeness = seen.wholeness;
        }
        // After a restart the store knows of roles whose folders went meanwhile.
        if let Some(wanted) = model.wanted.clone().filter(|_| first_look) {
            self.bring_back(name, &wanted);
        }
    }

    /// Every version of every model.
    fn places(&self) -> impl Iterator<Item = (ModelName, VersionId)> {
        self.models.iter().flat_map(|(name, model)| {
            model.entries.keys().map(move |version| (name.clone(), *version))
        })
    }
}

fn names(start: &Start, version: VersionId) -> bool {
    start.canary.is_some_and(|(canary, _)| canary == version)
        || start.shadows.iter().any(|(shadow, _)| *shadow == version)
}
