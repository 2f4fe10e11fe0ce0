-- What a rollout's decision was made from, and whose step an entry is.
ALTER TABLE audit ADD COLUMN evidence TEXT;
ALTER TABLE audit ADD COLUMN rollout BIGINT;

CREATE INDEX audit_rollout ON audit (rollout, number);

-- Rollouts as they stood last. `is_open` is 1 until one has come to its end.
CREATE TABLE rollout (
    id BIGINT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    is_open BIGINT NOT NULL,
    state TEXT NOT NULL
);

CREATE INDEX rollout_model ON rollout (model, id);
