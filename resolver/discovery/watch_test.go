package discovery

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestInstancesAreHandedOnWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers("10.0.0.2:1", "10.0.0.1:1")
		w := watch(t, a.source(), 10*time.Second)
		require.NoError(t, w.Await(t.Context()))
		assert.Equal(t, "10.0.0.1:1 10.0.0.2:1", w.next(t))

		a.say(nil, "10.0.0.1:1", "10.0.0.2:1") // the same in another order
		time.Sleep(10 * time.Minute)
		assert.Empty(t, w.updates)
		assert.Greater(t, a.count(), 8)

		a.say(nil, "10.0.0.3:1")
		assert.Equal(t, "10.0.0.3:1", w.next(t))
		status := w.Status()
		assert.Equal(t, 1, status.Instances)
		assert.Equal(t, time.Now(), status.Changed)
		assert.NoError(t, status.Err)
	})
}

func TestTheLastInstancesStayInUse(t *testing.T) {
	for name, fail := range map[string]func(a *answers){
		"while the source fails":        func(a *answers) { a.say(errors.New("out of order")) },
		"when it has none all at once":  func(a *answers) { a.say(nil) },
		"when it has none that are any": func(a *answers) { a.say(nil, "no address") },
		"when none gets any calls":      func(a *answers) { a.sayInstances(discovery.NewInstance("tcp", "10.0.0.2:1", 0, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAnswers("10.0.0.1:1")
				w := watch(t, a.source(), time.Second)
				assert.Equal(t, "10.0.0.1:1", w.next(t))

				fail(a)
				time.Sleep(time.Minute)
				assert.Empty(t, w.updates)
				assert.Equal(t, 1, w.Status().Instances)
				assert.Error(t, w.Status().Err)
				assert.Equal(t, 1, w.log.warnings("last known ones stay in use"), w.log)
				assert.NoError(t, w.Await(t.Context()))

				a.say(nil, "10.0.0.2:1")
				assert.Equal(t, "10.0.0.2:1", w.next(t))
				synctest.Wait()
				assert.NoError(t, w.Status().Err)
				assert.Contains(t, w.log.String(), "answers again")

				fail(a)
				time.Sleep(time.Minute)
				assert.Equal(t, 2, w.log.warnings("last known ones stay in use"), w.log)
			})
		})
	}
}

func TestAnotherProblemIsAnotherWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers("10.0.0.1:1")
		w := watch(t, a.source(), time.Second)
		for i := range 10 {
			a.say(fmt.Errorf("read udp 127.0.0.1:%d: timeout", 40000+i))
			time.Sleep(5 * time.Second)
		}
		assert.Equal(t, 1, w.log.warnings("timeout"), w.log)
		a.say(errors.New("refused"))
		time.Sleep(5 * time.Second)
		assert.Equal(t, 1, w.log.warnings("refused"))
	})
}

func TestAChangeIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers("10.0.0.1:1")
		w := watch(t, a.source(), 24*time.Hour)
		w.next(t)
		synctest.Wait()

		before, asked := time.Now(), a.count()
		a.say(nil, "10.0.0.2:1")
		for range 100 {
			a.changed <- struct{}{}
		}
		assert.Equal(t, "10.0.0.2:1", w.next(t))
		assert.Equal(t, settle, time.Since(before))
		time.Sleep(time.Minute)
		assert.Equal(t, asked+1, a.count(), "one question for a group of changes")
	})
}

// A change that comes while the source is being asked may not be in its answer.
func TestAChangeDuringAQuestionIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers("10.0.0.1:1")
		source, first, asking := a.source(), true, make(chan struct{})
		inner := source.Resolver
		source.Resolver = discovery.SynthesizedResolver{
			ResolveFunc: func(ctx context.Context, key string) (discovery.Result, error) {
				result, err := inner.Resolve(ctx, key)
				if first {
					first = false
					<-asking
				}
				return result, err
			},
		}
		w := watch(t, source, 24*time.Hour)
		synctest.Wait()
		a.say(nil, "10.0.0.2:1")
		a.changed <- struct{}{}
		close(asking)
		assert.Equal(t, "10.0.0.1:1", w.next(t))
		assert.Equal(t, "10.0.0.2:1", w.next(t))
	})
}

func TestASourceThatFailsIsAskedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers()
		a.say(errors.New("not up yet"))
		w := watch(t, a.source(), 24*time.Hour)
		synctest.Wait()
		a.say(nil, "10.0.0.1:1")
		before := time.Now()
		w.next(t)
		assert.LessOrEqual(t, time.Since(before), maxRetry*11/10)
	})
}

func TestRefreshIsJittered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers("10.0.0.1:1")
		watch(t, a.source(), 10*time.Second)
		synctest.Wait()
		pauses := map[time.Duration]bool{}
		for last, asked := time.Now(), a.count(); len(pauses) < 20; {
			time.Sleep(10 * time.Millisecond)
			if a.count() == asked {
				continue
			}
			pause := time.Since(last)
			assert.InDelta(t, 10, pause.Seconds(), 1.02)
			pauses[pause] = true // all being the same would never end
			last, asked = time.Now(), a.count()
		}
	})
}

func TestAwaitSaysWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		problem := errors.New("connection refused")
		a := newAnswers()
		a.say(problem)
		w := watch(t, a.source(), time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.Await(ctx)
		require.ErrorIs(t, err, problem)
		assert.EqualError(t, err, `cluster "orders" has no instances from answers of a test yet: connection refused`)

		a.say(nil)
		time.Sleep(10 * time.Second)
		w.Close()
		assert.ErrorContains(t, w.Await(t.Context()), "it has no instances")
	})
}

func TestCloseEndsAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers()
		source := a.source()
		source.Resolver = discovery.SynthesizedResolver{
			ResolveFunc: func(ctx context.Context, _ string) (discovery.Result, error) {
				<-ctx.Done()
				return discovery.Result{}, ctx.Err()
			},
		}
		w := watch(t, source, time.Second)
		synctest.Wait()
		before := time.Now()
		w.Close()
		w.Close()
		assert.Zero(t, time.Since(before))
		assert.True(t, a.closed)
		assert.Empty(t, w.log.String(), "that it was closed is no failure of the source")
		assert.ErrorContains(t, w.Await(t.Context()), "the watch has ended")
	})
}

func TestAQuestionTakesNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newAnswers().source()
		source.Resolver = discovery.SynthesizedResolver{
			ResolveFunc: func(ctx context.Context, _ string) (discovery.Result, error) {
				<-ctx.Done()
				return discovery.Result{}, ctx.Err()
			},
		}
		w := watch(t, source, time.Second)
		time.Sleep(askTimeout)
		synctest.Wait()
		assert.ErrorIs(t, w.Status().Err, context.DeadlineExceeded)
	})
}

func TestAResolverThatPanicsIsOneThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newAnswers().source()
		source.Resolver = discovery.SynthesizedResolver{
			ResolveFunc: func(context.Context, string) (discovery.Result, error) { panic("no registry") },
		}
		w := watch(t, source, time.Second)
		synctest.Wait()
		assert.EqualError(t, w.Status().Err, "the resolver panicked: no registry")
	})
}

func TestWhatCannotBeUsedIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers("10.0.0.1:1", "10.0.0.2")
		a.err = &IncompleteError{Missing: []string{"one is unreadable"}}
		w := watch(t, a.source(), time.Second)
		assert.Equal(t, "10.0.0.1:1", w.next(t))
		time.Sleep(time.Minute)
		assert.Equal(t, 2, w.Status().Refused)
		assert.NoError(t, w.Status().Err)
		assert.Equal(t, 1, w.log.warnings("one is unreadable"), w.log)
		assert.Equal(t, 1, w.log.warnings("10.0.0.2"), w.log)

		a.say(nil, "10.0.0.1:1")
		time.Sleep(10 * time.Second)
		a.say(nil, "10.0.0.1:1", "10.0.0.2")
		time.Sleep(10 * time.Second)
		assert.Equal(t, 2, w.log.warnings("10.0.0.2"), w.log)
	})
}

// Who gets the slice may do with it what it likes.
func TestUpdateOwnsItsSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers("10.0.0.1:1")
		calls := 0
		w := NewWatch(Options{Source: a.source(), Refresh: time.Second, Update: func(all []cluster.Instance) {
			all[0].Address = "changed"
			calls++
		}})
		time.Sleep(10 * time.Second)
		w.Close()
		assert.Equal(t, 1, calls)
	})
}
