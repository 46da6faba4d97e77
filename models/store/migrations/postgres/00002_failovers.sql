-- +goose Up

-- Each line of changes (cluster and timeline) that the program has seen as primary. last_seen_at is written every ten
-- seconds, so that after the promotion of a standby it tells up to when everything confirmed is there. synchronous says
-- whether every standby had what was confirmed at that time.
CREATE TABLE timelines (
    system_id     BIGINT NOT NULL,
    timeline      BIGINT NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at  BIGINT NOT NULL,
    synchronous   BOOLEAN NOT NULL,
    PRIMARY KEY (system_id, timeline)
);

-- What an account must look at after a change of timeline that may have lost confirmed revocations.
CREATE TABLE failovers (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    system_id  BIGINT NOT NULL,
    timeline   BIGINT NOT NULL,
    lost_from  BIGINT NOT NULL,
    lost_to    BIGINT NOT NULL,
    looked_at  BIGINT NOT NULL DEFAULT 0,
    UNIQUE (account_id, system_id, timeline)
);
