-- Contents that had a role once: which files of the state folder belong to a
-- version, how large they are, and when it was last wanted (seconds since 1970).
CREATE TABLE kept (
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    digest TEXT NOT NULL,
    content TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    needed BIGINT NOT NULL,
    PRIMARY KEY (model, version, digest)
);
