-- Which routing keys an open rollout has counted, as the recorder writes them.
CREATE TABLE rollout_keys (
    rollout BIGINT NOT NULL PRIMARY KEY,
    keys BLOB NOT NULL
);
