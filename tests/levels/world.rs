//! Seconds that are simulated.

use foreshadow::analysis::Counted;

use crate::rng::Rng;

impl Rng {
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Poisson's law, by inversion; from a mean of 60 on the rounded normal.
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 60.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (mut count, mut chance, mut rest) = (0, (-mean).exp(), self.uniform());
        while rest > chance && count < 1_000 {
            rest -= chance;
            count += 1;
            chance *= mean / count as f64;
        }
        count
    }

    /// The gamma law (Marsaglia & Tsang 2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let power = (1.0 - self.uniform()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * power;
        }
        let d = shape - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            let accept = (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln();
            if v > 0.0 && accept {
                return d * v;
            }
        }
    }

    /// The negative binomial law with this variance over mean.
    fn clumps(&mut self, mean: f64, dispersion: f64) -> u64 {
        if dispersion <= 1.0 || mean <= 0.0 {
            return self.poisson(mean);
        }
        let rate = self.gamma(mean / (dispersion - 1.0)) * (dispersion - 1.0);
        self.poisson(rate)
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests of seconds.
    Traffic,
    /// Failures of requests.
    Failures,
    /// Rows that are so of all.
    Answers,
}

/// One second: traffic itself, or this share of it.
fn second(kind: Kind, requests: f64, share: f64, dispersion: f64, rng: &mut Rng) -> Counted {
    if kind == Kind::Traffic {
        return Counted { count: rng.clumps(requests, dispersion), of: 1.0 };
    }
    let of = rng.poisson(requests);
    let count = rng.clumps(of as f64 * share, dispersion).min(of);
    Counted { count, of: of as f64 }
}

/// Something that does not change all at once.
pub(crate) struct Steady {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Requests per second.
    requests: f64,
    share: f64,
    /// Variance over mean of a second's count.
    dispersion: f64,
    /// How far the day swings, as a part of the mean.
    day: f64,
    /// Standard deviation of the logarithm of what the level wanders by, and the seconds
    /// that it takes to forget where it was.
    wander: (f64, f64),
    /// A job of so many requests over two seconds, each so many seconds or a few more.
    job: (f64, u32),
    /// Whether it wanders so far that there is no telling from a change.
    pub(crate) wanders: bool,
}

/// Where something steady is.
#[derive(Default)]
pub(crate) struct State {
    wander: f64,
    /// When the next job begins, in seconds; it begins within a second, as the looks do.
    job: f64,
}

impl Steady {
    pub(crate) fn second(&self, at: u32, state: &mut State, rng: &mut Rng) -> Counted {
        let (deviation, forgets) = self.wander;
        let kept = (-1.0 / forgets).exp();
        let moved = (1.0 - kept * kept).sqrt() * deviation * rng.normal();
        state.wander = kept * state.wander + moved;
        let times = (state.wander - deviation * deviation / 2.0).exp();
        let hour = std::f64::consts::TAU * f64::from(at) / 86_400.0;
        let day = 1.0 + self.day * hour.sin();
        let (requests, share) = match self.kind {
            Kind::Traffic => (self.requests * times * day + self.of_job(at, state, rng), 0.0),
            _ => (self.requests * day, (self.share * times).min(1.0)),
        };
        second(self.kind, requests, share, self.dispersion, rng)
    }

    /// The part of a job that falls into this second.
    fn of_job(&self, at: u32, state: &mut State, rng: &mut Rng) -> f64 {
        let (requests, every) = self.job;
        let from = state.job - f64::from(at);
        if from <= -2.0 {
            state.job += f64::from(every) + 3.0 * rng.uniform();
        }
        let overlap = (from + 2.0).min(1.0) - from.max(0.0);
        requests * overlap.max(0.0) / 2.0
    }
}

const PLAIN: Steady = Steady {
    name: "",
    kind: Kind::Traffic,
    requests: 0.0,
    share: 0.0,
    dispersion: 1.0,
    day: 0.0,
    wander: (0.0, 1.0),
    job: (0.0, 900),
    wanders: false,
};

const fn traffic(name: &'static str, requests: f64) -> Steady {
    Steady { name, requests, ..PLAIN }
}

const fn failures(name: &'static str, requests: f64, share: f64) -> Steady {
    Steady { name, kind: Kind::Failures, requests, share, ..PLAIN }
}

const fn answers(name: &'static str, requests: f64, share: f64) -> Steady {
    Steady { name, kind: Kind::Answers, requests, share, ..PLAIN }
}

const CLUMPED: Steady = Steady { dispersion: 10.0, ..traffic("5 requests/s, dispersion 10", 5.0) };
const BUSY: Steady = Steady {
    dispersion: 4.0,
    day: 0.8,
    wander: (0.2, 20.0),
    ..traffic("100 requests/s, dispersion 4, days of ± 80 %, wandering by 20 % within 20 s", 100.0)
};
const WAVES: Steady = Steady {
    wander: (0.2, 120.0),
    wanders: true,
    ..traffic("200 requests/s, wandering by 20 % within 2 minutes", 200.0)
};
const STORMY: Steady = Steady {
    wander: (0.4, 120.0),
    wanders: true,
    ..traffic("20 requests/s, wandering by 40 % within 2 minutes", 20.0)
};

pub(crate) const STEADY: &[Steady] = &[
    traffic("1 request a minute", 1.0 / 60.0),
    traffic("1 request/s", 1.0),
    traffic("20 requests/s", 20.0),
    traffic("1,000 requests/s", 1_000.0),
    CLUMPED,
    Steady { dispersion: 50.0, ..traffic("100 requests/s, dispersion 50", 100.0) },
    Steady { day: 0.8, ..traffic("10 requests/s, days of ± 80 %", 10.0) },
    Steady { day: 0.95, ..traffic("1,000 requests/s, days of ± 95 %", 1_000.0) },
    BUSY,
    Steady {
        job: (500.0, 900),
        ..traffic("3 requests/s, and a job of 500 within 2 s each 15 minutes", 3.0)
    },
    Steady {
        job: (500.0, 180),
        ..traffic("20 requests/s, and a job of 500 within 2 s each 3 minutes", 20.0)
    },
    WAVES,
    STORMY,
    Steady {
        wander: (0.7, 10.0),
        wanders: true,
        ..traffic("20 requests/s, wandering by 70 % within 10 s", 20.0)
    },
    failures("no failures of 20 requests/s", 20.0, 0.0),
    failures("0.1 % of 200 requests/s fail", 200.0, 0.001),
    failures("5 % of 20 requests/s fail", 20.0, 0.05),
    Steady {
        dispersion: 10.0,
        ..failures("0.1 % of 20 requests/s fail, some ten at once", 20.0, 0.001)
    },
    answers("10 % of 20 rows/s are so", 20.0, 0.1),
    Steady {
        dispersion: 10.0,
        ..answers("10 % of 200 rows/s are so, some ten at once", 200.0, 0.1)
    },
    answers("0.2 % of 200 rows/s are so", 200.0, 0.002),
    Steady {
        wander: (0.2, 120.0),
        ..answers("10 % of 200 rows/s are so, wandering by 20 % within 2 minutes", 200.0, 0.1)
    },
];

/// Something that changes all at once.
pub(crate) struct Sudden {
    pub(crate) from: Steady,
    pub(crate) name: &'static str,
    /// To so many times what it is.
    pub(crate) times: f64,
    /// The median is at most so many seconds.
    pub(crate) within: u32,
}

impl Sudden {
    /// A second of so many times the level. There is no hour of the day.
    pub(crate) fn second(&self, times: f64, state: &mut State, rng: &mut Rng) -> Counted {
        let Steady { requests, share, .. } = self.from;
        let changed = match self.from.kind {
            Kind::Traffic => Steady { requests: requests * times, ..self.from },
            _ => Steady { share: share * times, ..self.from },
        };
        changed.second(0, state, rng)
    }
}

const fn sudden(from: Steady, name: &'static str, times: f64, within: u32) -> Sudden {
    Sudden { from, name, times, within }
}

pub(crate) const SUDDEN: &[Sudden] = &[
    sudden(traffic("3 requests/s", 3.0), "silence", 0.0, 20),
    sudden(traffic("20 requests/s", 20.0), "silence", 0.0, 6),
    sudden(traffic("20 requests/s", 20.0), "a half", 0.5, 40),
    sudden(traffic("20 requests/s", 20.0), "× 2", 2.0, 15),
    sudden(traffic("100 requests/s", 100.0), "a half", 0.5, 10),
    sudden(traffic("100 requests/s", 100.0), "× 1.5", 1.5, 25),
    sudden(traffic("100 requests/s", 100.0), "× 2", 2.0, 6),
    sudden(traffic("1,000 requests/s", 1_000.0), "× 1.5", 1.5, 6),
    sudden(CLUMPED, "silence", 0.0, 60),
    sudden(BUSY, "silence", 0.0, 15),
    sudden(BUSY, "× 4", 4.0, 60),
    sudden(WAVES, "silence", 0.0, 15),
    sudden(WAVES, "× 4", 4.0, 60),
    sudden(STORMY, "silence", 0.0, 30),
    sudden(failures("1 % of 5 requests/s fail", 5.0, 0.01), "all", 100.0, 10),
    sudden(failures("0.1 % of 20 requests/s fail", 20.0, 0.001), "30 %", 300.0, 8),
    sudden(failures("0.1 % of 100 requests/s fail", 100.0, 0.001), "2 %", 20.0, 20),
    sudden(failures("0.1 % of 1,000 requests/s fail", 1_000.0, 0.001), "2 %", 20.0, 6),
    sudden(answers("10 % of 20 rows/s are so", 20.0, 0.1), "50 %", 5.0, 12),
    sudden(answers("10 % of 100 rows/s are so", 100.0, 0.1), "20 %", 2.0, 30),
    sudden(answers("10 % of 1,000 rows/s are so", 1_000.0, 0.1), "20 %", 2.0, 6),
    sudden(answers("50 % of 1,000 rows/s are so", 1_000.0, 0.5), "30 %", 0.6, 10),
];
