-- What labels say of the versions that a rollout compares, in JSON.
CREATE TABLE trial (
    rollout INTEGER NOT NULL PRIMARY KEY,
    what TEXT NOT NULL
);

-- Routing keys that were counted: by rollout, and by all rows (0) or one of its groups.
CREATE TABLE trial_key (
    rollout BIGINT NOT NULL,
    cell BIGINT NOT NULL,
    routing BIGINT NOT NULL,
    PRIMARY KEY (rollout, cell, routing)
) WITHOUT ROWID;
