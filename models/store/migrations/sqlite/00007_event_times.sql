-- +goose Up
-- How often what a line of the history tells of has happened. Only a line that
-- sums up refused sign-ins has more than 1.
ALTER TABLE audit_events ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
