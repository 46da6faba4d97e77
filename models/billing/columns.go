package billing

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cicosts/models"
)

// column is where a value stands. Its index is -1 where the report has no such column.
type column struct {
	index int
	name  string // as the header spells it
}

// columns says where the values of a report stand.
type columns struct {
	count     int
	notesLast bool // the last column is the first generation's notes, which rows may leave out

	date, product, sku, quantity, unit, organization, repository column
	workflow                                                     column // not in the summarized report
	gross, price                                                 column // one of the two
}

// findColumns reads the header. Names are compared without regard to case; older ones come second.
func findColumns(header []string) (columns, error) {
	at := make(map[string]int, len(header))
	twice := ""
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, known := at[name]; known && name != "" {
			twice = name
		}
		at[name] = i
	}
	var missing []string
	find := func(required bool, names ...string) column {
		for _, name := range names {
			if i, ok := at[name]; ok {
				return column{i, strings.TrimSpace(header[i])}
			}
		}
		if required {
			missing = append(missing, names[0])
		}
		return column{index: -1}
	}
	c := columns{
		count:        len(header),
		date:         find(true, "date", "usage_at"),
		product:      find(true, "product"),
		sku:          find(true, "sku"),
		quantity:     find(true, "quantity"),
		unit:         find(true, "unit_type", "unit type"),
		organization: find(true, "organization", "owner"),
		repository:   find(true, "repository", "repository slug"),
		workflow:     find(false, "workflow_path", "workflow_name", "actions workflow"),
		price:        find(false, "price per unit ($)"),
	}
	c.gross = find(c.price.index < 0, "gross_amount")
	if missing != nil {
		return columns{}, fmt.Errorf("line 1: this is no header of a GitHub billing usage report: missing %s", strings.Join(missing, ", "))
	}
	if twice != "" {
		return columns{}, fmt.Errorf("line 1: the column %q stands there twice", twice)
	}
	notes, ok := at["notes"]
	c.notesLast = ok && notes == len(header)-1
	return c, nil
}

// wants reports whether the row counts minutes of Actions.
func (c *columns) wants(fields []string) bool {
	unit := c.unit.of(fields)
	return strings.EqualFold(c.product.of(fields), "actions") &&
		(strings.EqualFold(unit, "minutes") || strings.EqualFold(unit, "minute"))
}

// seemsWhole guesses whether a row at the end of a file that lacks its line end, the last byte being last, is all there:
// a cut workflow path does not show otherwise.
func (c *columns) seemsWhole(fields []string, last byte) bool {
	if c.workflow.index != len(fields)-1 || last == '"' {
		return true
	}
	path := c.workflow.of(fields)
	return strings.HasSuffix(path, ".yml") || strings.HasSuffix(path, ".yaml")
}

func (c column) of(fields []string) string { return strings.TrimSpace(fields[c.index]) }

func (c column) bad(value, reason string) *RowError {
	return &RowError{Column: c.name, Value: value, Reason: reason, index: c.index}
}

// parse returns the row's values, or a RowError without its line.
func (c *columns) parse(fields []string) (row models.ReportRow, err error) {
	if row.Day, err = c.date.day(fields); err != nil {
		return row, err
	}
	if row.Minutes, err = c.quantity.amount(fields); err != nil {
		return row, err
	}
	if row.Cost, err = c.cost(fields); err != nil {
		return row, err
	}
	if row.Organization, err = c.organization.text(fields, maxName); err != nil {
		return row, err
	}
	if row.Repository, err = c.repository.text(fields, maxName); err != nil {
		return row, err
	}
	if owner, name, ok := strings.Cut(row.Repository, "/"); ok {
		row.Repository = name
		if row.Organization == "" {
			row.Organization = owner
		}
	}
	if c.workflow.index >= 0 {
		if row.Workflow, err = c.workflow.text(fields, maxPath); err != nil {
			return row, err
		}
	}
	row.Runner, err = c.sku.text(fields, maxName)
	row.Runner = strings.TrimPrefix(strings.ToLower(row.Runner), "actions_")
	return row, err
}

// Lengths in bytes, far above GitHub's own limits and small enough for a database's index.
const (
	maxName = 200
	maxPath = 1000
)

func (c column) text(fields []string, longest int) (string, error) {
	s := c.of(fields)
	switch {
	case len(s) > longest:
		return "", c.bad(s, fmt.Sprintf("has more than %d bytes", longest))
	case !utf8.ValidString(s) || strings.IndexFunc(s, unicode.IsControl) >= 0:
		return "", c.bad(s, "is not plain text in UTF-8")
	}
	return s, nil
}

func (c column) day(fields []string) (models.Day, error) {
	s := c.of(fields)
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t, err = time.Parse(time.RFC3339, s)
	}
	if err != nil || t.Year() < 2000 {
		return 0, c.bad(s, "is not a date as YYYY-MM-DD")
	}
	return models.DayOf(t), nil
}

// maxAmount is more than any row can say, and lets nine million of them be added.
const maxAmount = 100_000_000 * models.One

func (c column) amount(fields []string) (models.Decimal, error) {
	s := c.of(fields)
	d, err := models.ParseDecimal(s)
	return d, c.checkAmount(s, d, err)
}

// checkAmount returns a RowError where value is no amount: err, or what is wrong with d.
func (c column) checkAmount(value string, d models.Decimal, err error) error {
	switch {
	case err != nil:
		return c.bad(value, err.Error())
	case d < 0:
		return c.bad(value, "is negative")
	case d > maxAmount:
		return c.bad(value, models.ErrTooLarge.Error())
	}
	return nil
}

// cost returns the gross amount. The first generation has a price instead, with the runner's multiplier in it.
func (c *columns) cost(fields []string) (models.Decimal, error) {
	if c.gross.index >= 0 {
		return c.gross.amount(fields)
	}
	if _, err := c.price.amount(fields); err != nil {
		return 0, err
	}
	price := c.price.of(fields)
	d, err := models.ParseProduct(c.quantity.of(fields), price)
	return d, c.price.checkAmount(price, d, err)
}
