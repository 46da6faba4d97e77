-- +goose Up
-- Where requests with keys that are revoked or have expired come from: the newest sources of each key. All of its refused
-- requests are counted in daily_uses.
CREATE TABLE refusal_sources (
    key_id     TEXT NOT NULL REFERENCES api_keys (id),
    ip         TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    route      TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    requests   BIGINT NOT NULL,
    PRIMARY KEY (key_id, ip, user_agent, route, outcome)
);
