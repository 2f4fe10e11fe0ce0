-- Up to which entry each webhook has been told.
CREATE TABLE webhook (
    name TEXT NOT NULL PRIMARY KEY,
    told BIGINT NOT NULL
);
