-- +goose Up
-- The batches of use that were saved in the last day. A replica that does not know whether a batch was saved sends it
-- again; the batch is here if it was, and is not counted twice. dropped counts its requests with keys that are not here.
CREATE TABLE use_batches (
    id       TEXT PRIMARY KEY,
    saved_at BIGINT NOT NULL,
    dropped  BIGINT NOT NULL
);
CREATE INDEX use_batches_saved ON use_batches (saved_at);
