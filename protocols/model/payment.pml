// SPDX-License-Identifier: Apache-2.0
//
// A payment, from the tap to the center and back: card, terminals, center, time. README.md says what is
// left out, what is proved, and how to run it.
//
// What was sent is never taken back: a request that was stored, a claim that left a card, a void that was
// signed may arrive at any time, any number of times, in any order, or never. So a network that loses,
// delays and repeats needs no channels: who may act on a message has a guard that says it was sent.

// ---- sizes, given with -D ---------------------------------------------------------------------------

#ifndef REQUESTS
#define REQUESTS 2
#endif
#ifndef CLAIMS
#define CLAIMS 2 // signed in all: the count of the risk parameters
#endif
#ifndef LOG
#define LOG 3 // payments that a card remembers, 1 or 3; the real one 8
#endif
#ifndef LAST
#define LAST 1 // period in which the clock stops, until the ending
#endif
#ifdef CLONE
#define CARDS 2 // the second has the key and the money of the first
#else
#define CARDS 1
#endif
#ifdef ONE_TITLE
#define FIRST 7 // units of the first title; the rest is the second's
#else
#define FIRST 3
#endif
#ifdef COVERAGE
#define STEP atomic // slower, and the verifier says which statements it has not reached
#else
#define STEP d_step
#endif
#define UNITS 3 // of one coin; in a mask unit u is bit u
#define ALL 7
#ifndef EPOCHS
#define EPOCHS 5 // titles that can begin at one unit; an index error if there are more
#endif
#define TITLES (UNITS * EPOCHS)
#define LIFE 1 // periods from a title's making to its expiry

#define AMOUNT(r) ((r) == 1 -> 2 : 1)
#define PAYER 0 // the owner of both cards' key
#define PAYEE(r) ((r) + 1)
#define LIBRARY 100 // the issuing library: what it gets is redeemed
#define NONE 255

// ---- requests of terminals --------------------------------------------------------------------------

// A request, and from PENDING on the payment that answered it.
#define NEW 0
#define OPEN 1
#define GIVEN_UP 2
#define PENDING 3
#define VERIFIED 4
#define IN_DISPUTE 5
#define LATE 6
#define REFUNDED 7
#define REDEEMED 8

typedef Request {
    byte state;
    byte time;
    byte claim; // that answered it
    bool paid // the terminal said so
}

Request request[REQUESTS];

#define ANSWERED(r) (request[r].state >= PENDING)
#define ASKED(r) (request[r].state != NEW) // what was stored may reach a card at any later time

// ---- the card ---------------------------------------------------------------------------------------

typedef Store { // what survives a power cut
    byte left[TITLES]; // of each title, the units from its pointer on
    int seen; // titles, as bits
    byte counter;
    byte log[LOG] // claims + 1, the last one first; 0: nothing
}

Store store[CARDS];

#if LOG == 1
#define IN_LOG(me, c) (store[me].log[0] == (c) + 1)
#else
#define IN_LOG(me, c) (store[me].log[0] == (c) + 1 || store[me].log[1] == (c) + 1 || store[me].log[2] == (c) + 1)
#endif
#ifdef CLONE
#define REMEMBERED(c) (IN_LOG(0, c) || IN_LOG(1, c))
#else
#define REMEMBERED(c) IN_LOG(0, c)
#endif

// ---- the center's ledger ----------------------------------------------------------------------------

// Time goes in periods. A claim's deadline is the period of its request, grace included, and is past when a
// later one has begun. The same for a title's expiry.
byte now;
#define PAST(t) (now > (t))
#ifdef MUTANT_LATE_ON_TIME
#define TOO_LATE(c) (now >= request[claim[c].request].time)
#else
#define TOO_LATE(c) PAST(request[claim[c].request].time)
#endif
#ifdef MUTANT_RENEWED_EARLY
#define RENEWABLE(t) (title[t].live && title[t].owner == PAYER && (t < UNITS || PAST(title[t].expiry)))
#else
#define RENEWABLE(t) (title[t].live && title[t].owner == PAYER && PAST(title[t].expiry))
#endif

// How the center knows an interval of a claim.
#define UNKNOWN 0
#define SETTLED 1
#define DISPUTED 2
#define EXPIRED 3
#define VOIDED 4
#define RECLAIMED 5

typedef Title {
    byte owner;
    byte units; // the slice that was signed; 0: never made
    byte live; // what of it still belongs to the owner
    byte renewed; // what left it by a reclaim by title
    byte expiry
}

typedef Claim {
    byte request; // its nonce, and with it payee, amount and deadline
    byte counter;
    byte title[2]; // inputs
    byte units[2]; // 0: there is no such input
    byte signers; // which cards, as bits
    bool sent; // it has left a card
    byte outcome[2]; // what a deposit of it brings, for ever
    bool moved[2]; // the interval changed hands by this claim
    byte rival[2]; // where it is disputed: the claim that came first
    byte evidence // claims that are held against this one, as bits
}

// Title lo + UNITS * n is the n-th that begins at unit lo, so that no two orders give one title two names.
Title title[TITLES];
Claim claim[CLAIMS];
byte claims; // how many were signed
byte redeemed; // units
bool listed; // the payer's key is on the blacklist
bool barred[REQUESTS]; // a void of it is registered
bool over; // nothing more goes wrong

#define REGISTERED(c) (claim[c].outcome[0] != UNKNOWN)
// Whether input i of claim c and input j of claim d share units of one title.
#define OVERLAP(c, i, d, j) (claim[c].title[i] == claim[d].title[j] && (claim[c].units[i] & claim[d].units[j]))

// Scratch of single steps; no part of the state.
hidden byte i;
hidden byte j;
hidden byte d;
hidden byte e;
hidden byte k;
hidden byte n;
hidden byte u;
hidden byte w;
hidden byte lowest;
hidden byte covered;
hidden byte source;
hidden byte what;

// The one place where money changes hands: units of title t to a new title of `to`, or to the library.
inline move(t, units_, to) {
    what = units_; // title[t].live may be given for it
    title[t].live = title[t].live & ~what;
    if
    :: to == LIBRARY -> redeemed = redeemed | what
    :: else ->
        lowest = (what & 1 -> 0 : (what & 2 -> 1 : 2));
        do
        :: title[lowest].units -> lowest = lowest + UNITS
        :: else -> break
        od;
        title[lowest].owner = to;
        title[lowest].units = what;
        title[lowest].live = what;
        title[lowest].expiry = now + LIFE
    fi
}

#ifdef MUTANT_LIVE_UNCHECKED
#define IS_LIVE(c, x) true
#elif defined(MUTANT_PARTLY_LIVE)
#define IS_LIVE(c, x) (title[claim[c].title[x]].live & claim[c].units[x])
#else
#define IS_LIVE(c, x) ((title[claim[c].title[x]].live & claim[c].units[x]) == claim[c].units[x])
#endif

inline take(c, x, to) {
    if
    :: IS_LIVE(c, x) ->
        source = claim[c].title[x];
#ifdef MUTANT_TITLE_REUSED
        if
        :: to != PAYER -> move(source, claim[c].units[x], to)
        :: else // comes back under the title under which it was spent
        fi;
#else
        move(source, claim[c].units[x], to);
#endif
        claim[c].moved[x] = true
    :: else
    fi
}

// The claim by which some of interval x left its title; none, if it went back by title.
inline find_rival(c, x) {
    claim[c].rival[x] = NONE;
    for (d : 0 .. CLAIMS - 1) {
        if
        :: (claim[d].moved[0] && OVERLAP(c, x, d, 0)) || (claim[d].moved[1] && OVERLAP(c, x, d, 1)) ->
            claim[c].rival[x] = d
        :: else
        fi
    }
    assert(claim[c].rival[x] != NONE || (title[claim[c].title[x]].renewed & claim[c].units[x]))
}

#ifdef MUTANT_ONLY_MOVED_COMPARED
#define COMPARED(d) (claim[d].moved[0] || claim[d].moved[1])
#else
#define COMPARED(d) REGISTERED(d)
#endif

// A claim that is new to the center: whatever became of it and of others, whom does it overlap?
inline accuse(c) {
    for (d : 0 .. CLAIMS - 1) {
        if
        :: d != c && COMPARED(d) && (OVERLAP(c, 0, d, 0) || OVERLAP(c, 0, d, 1) || OVERLAP(c, 1, d, 0) || OVERLAP(c, 1, d, 1)) ->
#ifndef MUTANT_NO_EVIDENCE
            claim[c].evidence = claim[c].evidence | (1 << d);
#endif
#ifndef MUTANT_NOT_LISTED
            listed = true
#endif
        :: else
        fi
    }
}

// Interval by interval: wholly live under its title, it goes to its new owner; else it is disputed.
inline decide(c, state, to) {
    for (i : 0 .. 1) {
        if
        :: claim[c].units[i] ->
            take(c, i, to);
            if
            :: claim[c].moved[i] -> claim[c].outcome[i] = state
            :: else ->
                claim[c].outcome[i] = DISPUTED;
                find_rival(c, i);
#ifdef MUTANT_ACCUSED_BY_TITLE
                listed = (listed || claim[c].rival[i] == NONE)
#endif
            fi
        :: else
        fi
    }
}

inline turn_away(c, state) {
    claim[c].outcome[0] = state;
    claim[c].outcome[1] = (claim[c].units[1] -> state : UNKNOWN)
}

#ifdef MUTANT_SETTLED_ANEW
#define KNOWN(c) false
#else
#define KNOWN(c) REGISTERED(c)
#endif
#ifdef MUTANT_VOID_IGNORED
#define BARRED(c) false
#else
#define BARRED(c) barred[claim[c].request]
#endif

// A claim is deposited, by whoever has it.
inline deposit(c) {
    if
    :: KNOWN(c) // it keeps its first outcome
    :: else ->
        if
        :: BARRED(c) -> turn_away(c, VOIDED)
        :: !BARRED(c) && TOO_LATE(c) -> turn_away(c, EXPIRED)
        :: else -> decide(c, SETTLED, PAYEE(claim[c].request))
        fi;
        accuse(c);
        // who gave up, and said so, has not been paid
        assert(!barred[claim[c].request] || (claim[c].outcome[0] == VOIDED && claim[c].outcome[1] != SETTLED))
    fi
}

#ifdef MUTANT_RECLAIMED_EARLY
#define DUE(c) true
#else
#define DUE(c) (TOO_LATE(c) || barred[claim[c].request])
#endif

// A claim's money goes back to its payer; of one that came voided or late, what is still there.
inline reclaim(c) {
    if
    :: DUE(c) && !REGISTERED(c) ->
        decide(c, RECLAIMED, PAYER);
        accuse(c)
    :: DUE(c) && (claim[c].outcome[0] == VOIDED || claim[c].outcome[0] == EXPIRED) ->
        for (i : 0 .. 1) {
            if
            :: claim[c].units[i] && !claim[c].moved[i] -> take(c, i, PAYER)
            :: else
            fi
        }
    :: else
    fi
}

// What is still live under an expired title of the payer comes back to it, slice by slice.
inline reclaim_title(t) {
    if
    :: RENEWABLE(t) ->
#ifndef MUTANT_NO_RECLAIM_BY_TITLE
        title[t].renewed = title[t].live;
        if
        :: title[t].live == 5 -> // units 0 and 2: two slices
            move(t, 1, PAYER);
            move(t, 4, PAYER)
        :: else -> move(t, title[t].live, PAYER)
        fi;
#endif
    :: else
    fi
}

// Any number below `limit`.
inline pick(x, limit) {
    x = 0;
    do
    :: x < limit - 1 -> x++
    :: break
    od
}

// The claim with which this card answered request r, if it still knows it, else NONE.
inline look_up(me, r, c) {
    c = NONE;
    for (n : 0 .. LOG - 1) {
        if
        :: store[me].log[n] && claim[store[me].log[n] - 1].request == r -> c = store[me].log[n] - 1
        :: else
        fi
    }
}

// A title that has money left and does not expire before the claim's deadline.
#ifdef MUTANT_DEADLINE_BEHIND_EXPIRY
#define USABLE(me, r, t) (store[me].left[t])
#else
#define USABLE(me, r, t) (store[me].left[t] && title[t].expiry >= request[r].time)
#endif

// Sign: the claim gets a number, the one it has if another card has signed the very same.
inline make_claim(me, r, c) {
    c = 0;
    do
    :: c < claims && !(claim[c].request == r && claim[c].counter == store[me].counter
        && claim[c].title[0] == from[0] && claim[c].units[0] == units[0]
        && claim[c].title[1] == from[1] && claim[c].units[1] == units[1]) -> c++
    :: else -> break
    od;
    assert(c < CLAIMS);
    claims = (c == claims -> claims + 1 : claims);
    claim[c].request = r;
    claim[c].counter = store[me].counter;
    for (i : 0 .. 1) {
        claim[c].title[i] = from[i];
        claim[c].units[i] = units[i]
    }
    claim[c].signers = claim[c].signers | (1 << me);
    check_card(me, c)
}

// One card signs each unit of a title once, and answers a request that it remembers as it did before.
inline check_card(me, c) {
    for (d : 0 .. CLAIMS - 1) {
        if
        :: d != c && (claim[d].signers & (1 << me)) ->
            for (k : 0 .. 3) {
                i = k / 2;
                j = k % 2;
                assert(!OVERLAP(c, i, d, j))
            }
            assert(claim[d].request != claim[c].request || claim[c].counter - claim[d].counter > LOG)
        :: else
        fi
    }
}

inline write_pointers(me, c) {
    for (i : 0 .. 1) {
        store[me].left[claim[c].title[i]] = store[me].left[claim[c].title[i]] & ~claim[c].units[i]
    }
    store[me].counter++
}

inline write_log(me, c) {
    n = LOG - 1;
    do
    :: n > 0 ->
        store[me].log[n] = store[me].log[n - 1];
        n--
    :: else -> break
    od;
    store[me].log[0] = c + 1
}

#ifdef MUTANT_SPENT_TITLE_TAKEN_AGAIN
#define SEEN(me, n) (store[me].left[n])
#else
#define SEEN(me, n) (store[me].seen & (1 << n))
#endif

// The next title of this owner that the card has not seen; a title is taken once, whatever became of it.
inline put_title(me) {
    n = 0;
    do
    :: n < TITLES && (title[n].units == 0 || title[n].owner != PAYER || SEEN(me, n)) -> n++
    :: else -> break
    od;
    if
    :: n < TITLES ->
        store[me].left[n] = title[n].units;
        store[me].seen = store[me].seen | (1 << n)
    :: else
    fi
}

proctype Card(byte me) {
    byte r; // the request in hand
    byte c; // its claim
    byte t; // while choosing
    byte need;
    byte inputs;
    byte from[2];
    byte units[2];

end_idle:
    do
    :: atomic {
        !over ->
        pick(r, REQUESTS);
        if
        :: !ASKED(r) -> goto done
        :: else -> skip
        fi;
#ifndef MUTANT_RETRY_SIGNS_ANEW
        STEP { look_up(me, r, c) }
        if
        :: c != NONE && claim[c].sent -> goto done // the same bytes, which everybody may have already
        :: c != NONE && !claim[c].sent -> goto committed // nothing is signed or written
        :: c == NONE -> skip
        fi;
#endif
        // Which titles is left open: whatever a card's rule is, its choice is among these.
        need = AMOUNT(r);
        do
        :: t < TITLES && need && inputs < 2 && USABLE(me, r, t) ->
            STEP {
                from[inputs] = t;
                for (u : 0 .. UNITS - 1) { // from its pointer on
                    if
                    :: need && (store[me].left[t] & (1 << u)) ->
                        units[inputs] = units[inputs] | (1 << u);
                        need--
                    :: else
                    fi
                }
                inputs++;
                t++
            }
        :: t < TITLES -> t++
        :: t == TITLES -> break
        od;
        if
        :: need || claims == CLAIMS -> goto done // refused
        :: else -> skip
        fi;
        STEP {
            make_claim(me, r, c);
#if defined(MUTANT_ANSWER_BEFORE_WRITE)
            claim[c].sent = true
#elif defined(MUTANT_TWO_WRITES)
            write_log(me, c)
#else
            // one write; torn before it, nothing has happened, and the signature is gone with the power
            write_pointers(me, c);
            write_log(me, c)
#endif
        }
        goto committed
    }
    :: STEP { !over && me == 0 -> put_title(me) }
    od;

committed:
    if
    :: atomic { me == 1 -> claim[c].sent = true } // a clone is not torn
    :: atomic {
        me == 0 && !over ->
#if defined(MUTANT_ANSWER_BEFORE_WRITE)
        STEP { write_pointers(me, c); write_log(me, c) }
#elif defined(MUTANT_TWO_WRITES)
        STEP { write_pointers(me, c) }
#endif
        claim[c].sent = true // the answer
    }
    :: me == 0 // torn before the answer
    fi;

done:
    atomic {
        r = 0;
        c = 0;
        t = 0;
        need = 0;
        inputs = 0;
        from[0] = 0;
        from[1] = 0;
        units[0] = 0;
        units[1] = 0;
        goto end_idle
    }
}

// ---- what a terminal does ----------------------------------------------------------------------------

#define ALL_ARE(c, state) (claim[c].outcome[0] == state && \
    (claim[c].units[1] == 0 || claim[c].outcome[1] == state))

// Stored with the request's new state in one write, before anybody says "paid".
inline take_answer(c) {
#ifdef MUTANT_PAID_BEFORE_STORED
    request[claim[c].request].paid = true
#else
    request[claim[c].request].state = PENDING;
    request[claim[c].request].claim = c;
    request[claim[c].request].paid = true
#endif
}

inline take_receipt(r) {
    if
    :: ALL_ARE(request[r].claim, SETTLED) -> request[r].state = VERIFIED
    :: ALL_ARE(request[r].claim, EXPIRED) -> request[r].state = LATE
    :: else -> request[r].state = IN_DISPUTE
    fi
}

// All that a payee has goes on by a claim that is deposited at once: a refund, or a redemption.
inline transfer(r, to) {
    for (d : 0 .. TITLES - 1) {
        if
        :: title[d].live && title[d].owner == PAYEE(r) -> move(d, title[d].live, to)
        :: else
        fi
    }
}

// A terminal and one of its requests.
proctype Terminal(byte r) {
end_idle:
    do
    :: STEP { // stored before it is sent
        !over && request[r].state == NEW && (r == 0 || ASKED(r - 1)) -> // one after the other
        request[r].state = OPEN;
        request[r].time = now
    }
#ifdef MUTANT_VOID_OF_A_PAYMENT
    :: STEP { !over && (request[r].state == OPEN || request[r].state == PENDING) -> request[r].state = GIVEN_UP }
#else
    :: STEP { !over && request[r].state == OPEN -> request[r].state = GIVEN_UP } // gives up, signs a void
#endif
    :: STEP { !over && request[r].state == GIVEN_UP && !barred[r] -> barred[r] = true } // arrives
#ifdef TRANSFERS // else receipts can wait for the ending: what they say is settled
    :: STEP { !over && request[r].state == PENDING && REGISTERED(request[r].claim) -> take_receipt(r) }
    :: STEP { !over && request[r].state == VERIFIED -> transfer(r, PAYER); request[r].state = REFUNDED }
    :: STEP { !over && request[r].state == VERIFIED -> transfer(r, LIBRARY); request[r].state = REDEEMED }
#endif
    od
}

// ---- what may happen to a claim ---------------------------------------------------------------------

#ifdef MUTANT_ANSWER_TAKEN_AFTER_VOID
#define WANTED(r) (request[r].state == OPEN || request[r].state == GIVEN_UP)
#else
#define WANTED(r) (request[r].state == OPEN)
#endif

// Once it has left the card, anybody may bring it to its payee, to the center for its payee, or for its payer.
// The card's owner can also read it from the log.
proctype Way(byte c) {
end_idle:
    do
    :: STEP {
        !over && claim[c].sent && WANTED(claim[c].request) && !PAST(request[claim[c].request].time) ->
        take_answer(c)
    }
    :: STEP { !over && claim[c].sent -> deposit(c) }
    :: STEP { !over && (claim[c].sent || REMEMBERED(c)) -> reclaim(c) }
    od
}

proctype Clock() {
    byte t;

end_idle:
    do
    :: STEP { !over && now < LAST -> now++ }
    :: STEP { // at any time after it fell due
        !over ->
        for (t : 0 .. TITLES - 1) {
            reclaim_title(t)
        }
        t = 0
    }
    od
}

// ---- the ending -------------------------------------------------------------------------------------

// From any state: nothing more goes wrong, time passes, and who is owed money asks for it. Then nothing may be
// lost. Voids that did not arrive never do, requests that are open stay so.
inline deposit_stored() {
    for (r : 0 .. REQUESTS - 1) {
        if
        :: request[r].state == PENDING ->
            late = PAST(request[r].time);
            c = request[r].claim;
            deposit(c);
            take_receipt(r);
            // In time: money, or evidence that it was paid elsewhere before.
#ifdef CLONE
            assert(late || request[r].state == VERIFIED || (request[r].state == IN_DISPUTE && listed))
#else
            assert(late || request[r].state == VERIFIED)
#endif
        :: else
        fi
    }
}

// ---- what holds in every state ----------------------------------------------------------------------

// A disputed interval was spent before, and the evidence shows it to anyone.
inline check_dispute(c, x) {
    e = claim[c].rival[x];
    assert(e != c && REGISTERED(e));
    assert((OVERLAP(c, x, e, 0) && claim[e].moved[0]) || (OVERLAP(c, x, e, 1) && claim[e].moved[1]));
    assert(claim[c].evidence & (1 << e));
    assert(listed)
}

// Two registered claims on the same units of one title: one was paid at most, and the overlap was found.
inline check_pair(c, x, other, y) {
    if
    :: OVERLAP(c, x, other, y) && REGISTERED(other) ->
        assert(!(claim[c].moved[x] && claim[other].moved[y]));
        assert(listed)
    :: else
    fi
}

inline check_ledger() {
    covered = redeemed;
    for (n : 0 .. TITLES - 1) {
        assert((title[n].live & ~title[n].units) == 0);
        assert((covered & title[n].live) == 0); // no money created
        covered = covered | title[n].live
    }
    assert(covered == ALL); // none lost
    w = 0;
    for (d : 0 .. CLAIMS - 1) {
        w = w | claim[d].evidence;
        if
        :: REGISTERED(d) ->
            for (i : 0 .. 1) {
                if
                :: claim[d].outcome[i] == DISPUTED && claim[d].rival[i] != NONE -> check_dispute(d, i)
                :: else
                fi;
                // what left a title never lies under it again
                assert(!claim[d].moved[i] || !(title[claim[d].title[i]].live & claim[d].units[i]))
            }
            for (e : d + 1 .. CLAIMS - 1) {
                check_pair(d, 0, e, 0);
                check_pair(d, 0, e, 1);
                check_pair(d, 1, e, 0);
                check_pair(d, 1, e, 1)
            }
        :: else
        fi
    }
    assert(listed == (w != 0)); // nobody is accused without evidence
#ifndef CLONE
    assert(!listed) // nor is an honest card ever
#endif
}

// ---- and in every ending ----------------------------------------------------------------------------

inline check_ending() {
    for (r : 0 .. REQUESTS - 1) {
        assert(!request[r].paid || ANSWERED(r)); // what was said is stored
        w = 0;
        for (n : 0 .. TITLES - 1) {
            if
            :: title[n].live && title[n].owner == PAYEE(r) ->
                w = w | title[n].live;
                // its payee has what a card signed away to it, and nothing else
                covered = 0;
                for (d : 0 .. CLAIMS - 1) {
                    for (j : 0 .. 1) {
                        if
                        :: (claim[d].request == r && claim[d].sent && claim[d].moved[j]
                            && claim[d].outcome[j] == SETTLED) ->
                            covered = covered | claim[d].units[j]
                        :: else
                        fi
                    }
                }
                assert((title[n].live & ~covered) == 0)
            :: else
            fi
        }
        n = (w & 1) + ((w >> 1) & 1) + ((w >> 2) & 1);
        assert(request[r].state != VERIFIED || n >= AMOUNT(r));
#if !defined(CLONE) && LOG >= CLAIMS
        assert(n <= AMOUNT(r)) // paid once, also by a request that was given up
#endif
    }
    for (n : 0 .. TITLES - 1) {
        // all else is back with the payer, in titles from which its card can pay
        assert(title[n].owner != PAYER || (title[n].live & ~store[0].left[n]) == 0);
        assert(title[n].owner != PAYER || !title[n].live || !PAST(title[n].expiry))
    }
}

// All endings are one state to the verifier.
inline forget_all() {
    for (r : 0 .. REQUESTS - 1) {
        request[r].state = 0;
        request[r].time = 0;
        request[r].claim = 0;
        request[r].paid = false;
        barred[r] = false
    }
    for (c : 0 .. CLAIMS - 1) {
        claim[c].request = 0;
        claim[c].counter = 0;
        claim[c].signers = 0;
        claim[c].sent = false;
        claim[c].evidence = 0;
        for (i : 0 .. 1) {
            claim[c].title[i] = 0;
            claim[c].units[i] = 0;
            claim[c].outcome[i] = 0;
            claim[c].moved[i] = false;
            claim[c].rival[i] = 0
        }
    }
    for (n : 0 .. TITLES - 1) {
        title[n].owner = 0;
        title[n].units = 0;
        title[n].live = 0;
        title[n].renewed = 0;
        title[n].expiry = 0;
        for (i : 0 .. CARDS - 1) {
            store[i].left[n] = 0
        }
    }
    for (i : 0 .. CARDS - 1) {
        store[i].seen = 0;
        store[i].counter = 0;
        for (n : 0 .. LOG - 1) {
            store[i].log[n] = 0
        }
    }
    claims = 0;
    redeemed = 0;
    listed = false
}

proctype Ending() {
    byte c;
    byte r;
    bool late;

    atomic {
        over = true;
        STEP { check_ledger() }
        if
        :: STEP { deposit_stored(); late = false; c = 0 }
        :: skip // nobody deposits before it is too late
        fi;
        STEP {
            now = LAST + LIFE + 1;
            for (c : 0 .. CLAIMS - 1) {
                if
                :: claim[c].sent || REMEMBERED(c) -> reclaim(c)
                :: else
                fi
            }
            deposit_stored();
            for (c : 0 .. TITLES - 1) {
                reclaim_title(c)
            }
            for (c : 1 .. TITLES) {
                put_title(0)
            }
            check_ledger();
            check_ending();
            forget_all();
            late = false;
            r = 0;
            c = 0
        }
    }
}

inline hold(t, what_) {
    title[t].units = what_;
    title[t].live = what_;
    title[t].expiry = LIFE;
    for (i : 0 .. CARDS - 1) {
        store[i].left[t] = what_;
        store[i].seen = store[i].seen | (1 << t)
    }
}

init {
    atomic {
        hold(0, FIRST);
#ifndef ONE_TITLE
        hold(2, ALL - FIRST);
#endif
        for (i : 0 .. CARDS - 1) {
            run Card(i)
        }
        for (i : 0 .. REQUESTS - 1) {
            run Terminal(i)
        }
        for (i : 0 .. CLAIMS - 1) {
            run Way(i)
        }
        run Clock();
        run Ending()
    }
}
