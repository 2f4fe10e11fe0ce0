-- What is wanted for each model, as JSON.
CREATE TABLE wanted (
    model TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL
);

-- The audit log: entries are added, never changed. `state` is what was wanted
-- from then on; `hash` is over the entry and the hash of the one before.
CREATE TABLE audit (
    number BIGINT NOT NULL PRIMARY KEY,
    time TEXT NOT NULL,
    model TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    reason TEXT,
    from_plan TEXT NOT NULL,
    to_plan TEXT NOT NULL,
    state TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE INDEX audit_model ON audit (model, number);
