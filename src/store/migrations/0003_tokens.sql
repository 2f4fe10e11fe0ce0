-- Who may use the admin API; of the secret only its SHA-256 is kept.
CREATE TABLE token (
    name TEXT NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,
    digest TEXT NOT NULL,
    creator TEXT NOT NULL,
    created TEXT NOT NULL,
    expires TEXT
);
