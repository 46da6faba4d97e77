-- +goose Up
-- While a revocation waits for a synchronous standby, its row says so: a wait that is cut short leaves the row to be seen,
-- but a failover could still lose it.
ALTER TABLE api_keys ADD COLUMN revocation_uncertain BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX api_keys_uncertain ON api_keys (id) WHERE revocation_uncertain;
