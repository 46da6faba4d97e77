-- +goose Up
-- Revocations that were asked for and are not certain yet. The row is
-- committed before the first try, so every replica can show the revocation and
-- go on with it. It is deleted when the revocation is certain.
CREATE TABLE revocation_requests (
    key_id       TEXT PRIMARY KEY REFERENCES api_keys (id),
    account_id   TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    actor_type   TEXT NOT NULL,
    actor_id     TEXT NOT NULL,
    actor_label  TEXT NOT NULL,
    ip           TEXT NOT NULL
);

-- The row replaces api_keys.revocation_uncertain. The column stays for now,
-- because replicas of the version before still write it during an upgrade.
INSERT INTO revocation_requests (key_id, account_id, requested_at, actor_type, actor_id, actor_label, ip)
SELECT id, account_id, revoked_at, 'program', '', 'CICosts', '' FROM api_keys WHERE revocation_uncertain;
