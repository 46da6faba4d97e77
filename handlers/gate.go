package handlers

import (
	"context"
	"errors"
	"time"

	"cicosts/models/password"
)

// gate lets attempts to sign in through: few at once, in a fair order, and no
// more than the guard allows. It is safe for concurrent use.
type gate struct {
	guard *loginGuard
	turns *turns
}

func newGate(now func() time.Time) *gate {
	return &gate{guard: newLoginGuard(now), turns: newTurns(password.AtOnce, now)}
}

// tooMany says that an attempt was refused before anything was looked at.
type tooMany struct{ wait time.Duration }

func (tooMany) Error() string { return "too many attempts to sign in" }

// errBusy says that others take all places, or that the turn did not come in
// time.
var errBusy = errors.New("too many attempts to sign in are under way")

// try runs check when it is the attempt's turn, and returns what check returns:
// whether the password was right. It returns errBusy at once when there is no
// place to wait in, and tooMany when the attempt is over a limit.
//
// The attempt is counted before its turn. It stays counted unless the password
// was right, check failed, or the turn did not come. Try does not stop when the
// client hangs up, so hanging up saves a client nothing; it stops at ctx's
// deadline.
func (g *gate) try(ctx context.Context, a attempt, check func(context.Context) (right bool, err error)) (right bool, err error) {
	ctx, cancel := untilDeadline(ctx)
	defer cancel()
	counted, wait, ok := g.guard.take(a) // first, so that it makes no other give up its place in vain
	if !ok {
		return false, tooMany{wait}
	}
	err = errBusy // until check has returned, even if it panics
	defer func() {
		switch {
		case err != nil:
			g.guard.refund(counted)
		case right:
			g.guard.succeeded(counted)
		}
	}()
	place := g.turns.join(a)
	if place == nil {
		return false, errBusy
	}
	defer place.leave()
	if !place.wait(ctx) {
		return false, errBusy
	}
	return check(ctx)
}

// untilDeadline returns a context that ends with ctx's deadline, but not when
// ctx is canceled.
func untilDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(context.WithoutCancel(ctx), deadline)
	}
	return context.WithCancel(context.WithoutCancel(ctx))
}
