-- Who answered: a version in a role at a share, in JSON.
CREATE TABLE answerer (
    id INTEGER NOT NULL PRIMARY KEY,
    what TEXT NOT NULL UNIQUE
);

-- Answered requests, in the order in which they were stored. `at` is in milliseconds
-- since 1970; `routing` is where the routing key lies in the split; `answers` and `truths` are as the program writes them.
CREATE TABLE prediction (
    n INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    at BIGINT NOT NULL,
    answerer BIGINT NOT NULL,
    routing BIGINT,
    answers BLOB NOT NULL,
    truths BLOB
);

-- Labels for answers that are not known (yet).
CREATE TABLE waiting (
    id BLOB NOT NULL,
    row BIGINT NOT NULL,
    at BIGINT NOT NULL,
    label BLOB NOT NULL,
    PRIMARY KEY (id, row)
) WITHOUT ROWID;

-- Sums of quality, by the day of the answers; in JSON.
CREATE TABLE quality (
    answerer BIGINT NOT NULL,
    grouping BIGINT NOT NULL,
    member BIGINT NOT NULL,
    day BIGINT NOT NULL,
    sums TEXT NOT NULL,
    PRIMARY KEY (answerer, grouping, member, day)
) WITHOUT ROWID;
