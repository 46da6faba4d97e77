-- +goose Up
-- Instants are microseconds since 1970 in UTC, 0 for never; permissions are the bits of models.Permissions.

CREATE TABLE secrets (
    id            TEXT PRIMARY KEY,
    first_used_at BIGINT NOT NULL
);

CREATE TABLE accounts (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    name_folded TEXT NOT NULL UNIQUE,
    plan        TEXT NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    email         TEXT NOT NULL,
    email_folded  TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    disabled_at   BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE memberships (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    user_id    TEXT NOT NULL REFERENCES users (id),
    role       TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);

CREATE TABLE setup_tokens (
    hash       BYTEA PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    hash         BYTEA PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES users (id),
    account_id   TEXT NOT NULL REFERENCES accounts (id),
    created_at   BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    ip           TEXT NOT NULL,
    user_agent   TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_created ON sessions (created_at);

CREATE TABLE api_keys (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL REFERENCES accounts (id),
    name        TEXT NOT NULL,
    name_folded TEXT NOT NULL,
    mode        TEXT NOT NULL CHECK (mode IN ('live', 'test')),
    permissions BIGINT NOT NULL,
    hint        TEXT NOT NULL,
    hash        BYTEA NOT NULL UNIQUE,
    secret_id   TEXT NOT NULL REFERENCES secrets (id),
    form_token  TEXT NOT NULL,
    created_by  TEXT NOT NULL REFERENCES users (id),
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    revoked_at  BIGINT NOT NULL DEFAULT 0,
    UNIQUE (account_id, form_token)
);
CREATE INDEX api_keys_newest ON api_keys (account_id, created_at DESC, id DESC);
CREATE INDEX api_keys_unrevoked ON api_keys (account_id, created_at DESC, id DESC, expires_at) WHERE revoked_at = 0;
CREATE INDEX api_keys_active ON api_keys (account_id, mode, expires_at) WHERE revoked_at = 0;
CREATE INDEX api_keys_name ON api_keys (account_id, name_folded);
CREATE INDEX api_keys_hint ON api_keys (account_id, hint);

-- The pieces of three characters of each key's folded name, and the shorter ones at its end, so that a part of a name is
-- found without reading every name.
CREATE TABLE key_grams (
    account_id TEXT NOT NULL,
    gram       TEXT COLLATE "C" NOT NULL,
    key_id     TEXT NOT NULL REFERENCES api_keys (id),
    PRIMARY KEY (account_id, gram, key_id)
);

CREATE TABLE audit_events (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL,
    at          BIGINT NOT NULL,
    actor_type  TEXT NOT NULL,
    actor_id    TEXT NOT NULL,
    actor_label TEXT NOT NULL,
    ip          TEXT NOT NULL,
    action      TEXT NOT NULL,
    target_id   TEXT NOT NULL,
    detail      TEXT NOT NULL
);
CREATE INDEX audit_events_account ON audit_events (account_id, at);
CREATE INDEX audit_events_target ON audit_events (account_id, target_id, at);

-- Apart from api_keys, so that recording use never touches the row a revocation locks.
CREATE TABLE last_uses (
    key_id     TEXT NOT NULL REFERENCES api_keys (id),
    refused    BOOLEAN NOT NULL,
    used_at    BIGINT NOT NULL,
    ip         TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    route      TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    PRIMARY KEY (key_id, refused)
);

CREATE TABLE daily_uses (
    key_id   TEXT NOT NULL REFERENCES api_keys (id),
    day      INTEGER NOT NULL,
    route    TEXT NOT NULL,
    outcome  TEXT NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (key_id, day, route, outcome)
);

-- What billing usage reports say: cost is in ten-thousandths of a US dollar, minutes in ten-thousandths of a minute, day in
-- days since 1970-01-01. GitHub compares the names of organizations and repositories without regard to case.
CREATE TABLE report_costs (
    account_id          TEXT NOT NULL REFERENCES accounts (id),
    day                 INTEGER NOT NULL,
    organization_folded TEXT NOT NULL,
    repository_folded   TEXT NOT NULL,
    workflow            TEXT NOT NULL,
    runner              TEXT NOT NULL,
    organization        TEXT NOT NULL,
    repository          TEXT NOT NULL,
    minutes             BIGINT NOT NULL,
    cost                BIGINT NOT NULL,
    PRIMARY KEY (account_id, day, organization_folded, repository_folded, workflow, runner)
);
