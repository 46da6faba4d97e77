package store

import (
	"context"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"cicosts/models"
)

// keyGram is a piece of a key's name, see models.Grams.
type keyGram struct {
	AccountID string
	Gram      string
	KeyID     string
}

func gramsOf(k *models.APIKey) []keyGram {
	var rows []keyGram
	for _, gram := range models.Grams(k.NameFolded) {
		rows = append(rows, keyGram{AccountID: k.AccountID, Gram: gram, KeyID: k.ID})
	}
	return rows
}

// rareGram is how many keys may share a piece of name for it to lead the search. When every piece of what is searched is
// in more names than that, matches are so frequent that walking the list from the newest finds a page of them soon.
const rareGram = 250

// search narrows records to the keys whose name holds query, compared as by
// models.FoldName and with no character special, or whose last four characters
// it is. A query that looks blank narrows nothing. A key stored before
// models.FoldName is found by its name as it was typed.
func (s *Store) search(records *gorm.DB, accountID, query string) (*gorm.DB, error) {
	query = strings.TrimSpace(query)
	folds := models.NameFolds(query)
	if folds[0] == "" {
		return records, nil
	}
	find := "instr"
	if s.dialect == postgres {
		find = "strpos"
	}
	candidates, allRare := "SELECT id AS key_id FROM api_keys WHERE account_id = ? AND hint = ?", true
	candidateArgs := []any{accountID, query}
	matches, matchArgs := "k.hint = ?", []any{query}
	for _, folded := range folds {
		matches += " OR " + find + "(k.name_folded, ?) > 0"
		matchArgs = append(matchArgs, folded)
		gram, rare, err := s.rarestGram(records.Statement.Context, accountID, folded)
		if err != nil {
			return nil, err
		}
		allRare = allRare && rare
		candidates += " UNION SELECT key_id FROM key_grams WHERE account_id = ? AND gram >= ? AND gram < ?"
		candidateArgs = append(candidateArgs, accountID, gram, gramEnd(gram))
	}
	if allRare {
		// Named first, because SQLite takes the tables of a CROSS JOIN in this order: the few candidates, then their keys.
		records = records.Table("("+candidates+") AS g CROSS JOIN api_keys AS k", candidateArgs...).Where("k.id = g.key_id")
	}
	return records.Where(matches, matchArgs...), nil
}

// rarestGram returns the piece of folded that the fewest of the account's names have, and whether these are few.
func (s *Store) rarestGram(ctx context.Context, accountID, folded string) (gram string, rare bool, err error) {
	candidates := leadingGrams(folded)
	var parts []string
	var args []any
	for i, g := range candidates {
		parts = append(parts, "SELECT "+strconv.Itoa(i)+" AS i, count(*) AS n FROM (SELECT 1 FROM key_grams WHERE account_id = ? AND gram >= ? AND gram < ? LIMIT ?) x")
		args = append(args, accountID, g, gramEnd(g), rareGram+1)
	}
	var counts []struct{ I, N int }
	if err := s.read.WithContext(ctx).Raw(strings.Join(parts, " UNION ALL "), args...).Scan(&counts).Error; err != nil {
		return "", false, err
	}
	fewest := rareGram + 1
	for _, c := range counts {
		if c.N < fewest {
			fewest, gram = c.N, candidates[c.I]
		}
	}
	return gram, fewest <= rareGram, nil
}

// leadingGrams returns at most eight pieces of folded by which a search may be led: none shorter than the others.
func leadingGrams(folded string) []string {
	const most = 8
	grams := models.Grams(folded)
	whole := len([]rune(grams[0]))
	var leading []string
	for _, g := range grams {
		if len([]rune(g)) == whole {
			leading = append(leading, g)
		}
	}
	if len(leading) <= most {
		return leading
	}
	spread := make([]string, most)
	for i := range spread {
		spread[i] = leading[i*len(leading)/most]
	}
	return spread
}

// gramEnd is above every piece that begins with gram and below every other that is above gram.
func gramEnd(gram string) string { return gram + "\U0010FFFF" }
