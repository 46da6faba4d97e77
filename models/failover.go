package models

// Timeline is one line of a PostgreSQL cluster's changes, as seen on its primary. The number goes up when a standby is
// promoted or a backup restored.
type Timeline struct {
	SystemID    int64 `gorm:"primaryKey;autoIncrement:false"`
	Timeline    int64 `gorm:"primaryKey;autoIncrement:false"`
	FirstSeenAt Instant
	LastSeenAt  Instant // by the database's clock, ten seconds old at most while the program runs
	Synchronous bool    // at LastSeenAt every standby had what was confirmed
}

// Failover tells an account that what it was confirmed between LostFrom and LostTo may have been lost.
type Failover struct {
	ID        string `gorm:"primaryKey"`
	AccountID string
	SystemID  int64
	Timeline  int64 // the one that began
	LostFrom  Instant
	LostTo    Instant
	LookedAt  Instant // when somebody of the account said that they had looked; zero: not yet
}
