package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"iter"
	"strings"
	"time"

	"gorm.io/gorm"

	"cicosts/models"
)

// importTimeout bounds an import, the reading of its file included.
const importTimeout = 30 * time.Minute

// ReplaceReport stores the rows of a usage report, all or none: rows with equal names and day are added, and they take
// the place of the account's report rows of every day, organization and repository among them. source, such as a file
// name, goes into the history. An error that rows yields is returned as it is; rows is read with no lock held.
func (s *Store) ReplaceReport(ctx context.Context, by models.Actor, accountID, source string, rows iter.Seq2[models.ReportRow, error]) (models.ReportTotals, error) {
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	r := &reportImport{store: s, by: by, accountID: accountID, source: source}
	var err error
	if s.dialect == postgres {
		err = r.onPostgres(ctx, rows)
	} else {
		err = r.onSQLite(ctx, rows)
	}
	if r.badRow != nil {
		return r.totals, r.badRow
	}
	return r.totals, classify("importing a report", err)
}

type reportImport struct {
	store     *Store
	by        models.Actor
	accountID string
	source    string
	totals    models.ReportTotals
	badRow    error  // what rows yielded
	statement string // inserts a whole batch
}

// onPostgres does everything in one transaction, as a pooler may give the next one another connection, without the
// temporary tables. Nobody waits for it before replace.
func (r *reportImport) onPostgres(ctx context.Context, rows iter.Seq2[models.ReportRow, error]) error {
	return r.store.changePostgres(ctx, "10min", func(tx *gorm.DB) error {
		if err := r.stage(tx, rows, " ON COMMIT DROP"); err != nil {
			return err
		}
		return r.replace(tx)
	})
}

// onSQLite reads the rows into temporary tables, which takes no lock on the database, and only then becomes its writer.
func (r *reportImport) onSQLite(ctx context.Context, rows iter.Seq2[models.ReportRow, error]) error {
	return r.store.read.WithContext(ctx).Connection(func(conn *gorm.DB) error {
		pool := conn.Statement.ConnPool.(*sql.Conn)
		// The temporary tables go with the connection.
		defer func() { _ = pool.Raw(func(any) error { return driver.ErrBadConn }) }()
		conn = conn.Session(&gorm.Session{})
		if err := conn.Exec("BEGIN DEFERRED").Error; err != nil {
			return err
		}
		if err := r.stage(conn, rows, ""); err != nil {
			return err
		}
		if err := conn.Exec("COMMIT").Error; err != nil {
			return err
		}
		return conn.Transaction(r.replace)
	})
}

const (
	reportKey     = "day, organization_folded, repository_folded, workflow, runner"
	reportColumns = reportKey + ", organization, repository, minutes, cost"
	reportTypes   = "day INTEGER, organization_folded TEXT, repository_folded TEXT, workflow TEXT, runner TEXT, " +
		"organization TEXT, repository TEXT, minutes BIGINT, cost BIGINT"
	reportWidth = 9 // columns
)

// stage fills the temporary table merged_report with the rows, equal keys added.
func (r *reportImport) stage(tx *gorm.DB, rows iter.Seq2[models.ReportRow, error], onCommit string) error {
	if err := tx.Exec("CREATE TEMPORARY TABLE read_report (" + reportTypes + ")" + onCommit).Error; err != nil {
		return err
	}
	args := make([]any, 0, r.store.reportBatch()*reportWidth)
	for row, err := range rows {
		if err != nil {
			r.badRow = err
			return err
		}
		r.totals.Add(row)
		args = append(args, row.Day, models.FoldRepository(row.Organization), models.FoldRepository(row.Repository), row.Workflow, row.Runner,
			row.Organization, row.Repository, row.Minutes, row.Cost)
		if len(args) == cap(args) {
			if err := r.insert(tx, args); err != nil {
				return err
			}
			args = args[:0]
		}
	}
	if len(args) > 0 {
		if err := r.insert(tx, args); err != nil {
			return err
		}
	}
	// Where only the case of a name differs, which spelling stays must not depend on the order of the rows.
	err := tx.Exec("CREATE TEMPORARY TABLE merged_report" + onCommit + " AS SELECT " + reportKey +
		", MIN(organization) AS organization, MIN(repository) AS repository, CAST(SUM(minutes) AS BIGINT) AS minutes, CAST(SUM(cost) AS BIGINT) AS cost" +
		" FROM read_report GROUP BY " + reportKey + " ORDER BY " + reportKey).Error
	if err != nil {
		return err
	}
	if err := tx.Exec("CREATE UNIQUE INDEX merged_report_key ON merged_report (" + reportKey + ")").Error; err != nil {
		return err
	}
	return tx.Exec("ANALYZE merged_report").Error
}

// insert goes around GORM, which would parse the statement anew for every batch.
func (r *reportImport) insert(tx *gorm.DB, args []any) error {
	if len(r.statement) == 0 || len(args) < r.store.reportBatch()*reportWidth {
		r.statement = r.store.insertReport(len(args) / reportWidth)
	}
	_, err := tx.Statement.ConnPool.ExecContext(tx.Statement.Context, r.statement, args...)
	return err
}

// reportBatch is how many rows one statement takes. The SQLite driver's work grows with the square of it.
func (s *Store) reportBatch() int {
	if s.dialect == postgres {
		return 200
	}
	return 10
}

func (s *Store) insertReport(rows int) string {
	var text strings.Builder
	text.WriteString("INSERT INTO read_report (" + reportColumns + ") VALUES ")
	for i := range rows * reportWidth {
		switch {
		case i%reportWidth > 0:
			text.WriteString(", ")
		case i == 0:
			text.WriteString("(")
		default:
			text.WriteString("), (")
		}
		if s.dialect == postgres {
			fmt.Fprintf(&text, "$%d", i+1)
		} else {
			text.WriteString("?")
		}
	}
	return text.String() + ")"
}

// replace puts what was staged in the place of what the report covers. Rows that stay the same are not touched: a report is
// often imported again when it has grown, and SQLite lets nobody else write meanwhile.
func (r *reportImport) replace(tx *gorm.DB) error {
	if err := r.store.lockName(tx, "report "+r.accountID); err != nil {
		return err
	}
	err := tx.Exec(`DELETE FROM report_costs WHERE account_id = ?
		AND (day, organization_folded, repository_folded) IN (SELECT day, organization_folded, repository_folded FROM merged_report)
		AND NOT EXISTS (SELECT 1 FROM merged_report m WHERE m.day = report_costs.day
			AND m.organization_folded = report_costs.organization_folded AND m.repository_folded = report_costs.repository_folded
			AND m.workflow = report_costs.workflow AND m.runner = report_costs.runner
			AND m.organization = report_costs.organization AND m.repository = report_costs.repository
			AND m.minutes = report_costs.minutes AND m.cost = report_costs.cost)`, r.accountID).Error
	if err != nil {
		return err
	}
	err = tx.Exec("INSERT INTO report_costs (account_id, "+reportColumns+") SELECT ?, "+reportColumns+
		" FROM merged_report WHERE true ON CONFLICT DO NOTHING", r.accountID).Error
	if err != nil {
		return err
	}
	detail := r.source + ": no minutes of Actions"
	if t := r.totals; t.Rows > 0 {
		detail = fmt.Sprintf("%s: %d rows, %s to %s, %s USD", r.source, t.Rows, t.First, t.Last, t.Cost)
	}
	return event(tx, r.by, models.AuditEvent{
		AccountID: r.accountID, At: models.At(r.store.now()), Action: models.ActionImported, TargetID: r.accountID, Detail: detail,
	})
}

// NewestCostDay returns the last day for which the account has costs, or
// models.ErrNotFound where it has none.
func (s *Store) NewestCostDay(ctx context.Context, accountID string) (models.Day, error) {
	var day int
	err := first(s.read.WithContext(ctx).Table("report_costs").Select("day").Where("account_id = ?", accountID).Order("day DESC"), &day)
	return models.Day(day), classify("looking for the newest costs", err)
}

// DailyCosts returns the account's costs that f chooses, added up by day, in order; days without any are left out. What
// it knows comes from usage reports, so HasRuns is false.
func (s *Store) DailyCosts(ctx context.Context, accountID string, f models.CostFilter) ([]models.DailyCost, error) {
	done, err := s.reports.take(ctx)
	if err != nil {
		return nil, classify("adding up costs", err)
	}
	defer done()
	q := s.read.WithContext(ctx).Table("report_costs").
		Select("day, CAST(SUM(cost) AS BIGINT) AS cost, CAST(SUM(minutes) AS BIGINT) AS minutes").
		Where("account_id = ? AND day BETWEEN ? AND ?", accountID, f.From, f.To)
	if f.Organization != "" {
		q = q.Where("organization_folded = ?", models.FoldRepository(f.Organization))
	}
	if f.Repository != "" {
		q = q.Where("repository_folded = ?", models.FoldRepository(f.Repository))
	}
	switch {
	case strings.Contains(f.Workflow, "/"):
		q = q.Where("workflow = ?", f.Workflow)
	case f.Workflow != "":
		// The end of the path, without LIKE, whose idea of case differs between the databases.
		file := "/" + f.Workflow
		q = q.Where("(workflow = ? OR substr(workflow, length(workflow) - ? + 1) = ?)", f.Workflow, len([]rune(file)), file)
	}
	var days []models.DailyCost
	err = q.Group("day").Order("day").Scan(&days).Error
	return days, classify("adding up costs", err)
}
