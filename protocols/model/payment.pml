/* SPDX-License-Identifier: Apache-2.0
 *
 * The payment of protocols/spec: card, terminals, registration center; tears, retries, lost, late and
 * repeated messages, deadline, void, reclaim, honest reuse of what came back, a clone. See README.md.
 *
 *   spin -a [-DCLONE] [-DMUTANT_...] payment.pml && cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m100000
 *
 * A message once sent may arrive at any later time, any number of times, or after everything that
 * matters: that is loss, delay, repetition and reordering. So a message is a bit that stays set.
 * Every step happens once, so every run ends; what is then left undone is impossible for good.
 */

#ifndef FEN
#define FEN 3                        /* of one coin; the title T0 holds them all */
#endif
#define PAYMENTS 3                   /* a request, and the claim that answers it, have one number */
#define REUSE 2                      /* this one is paid from what came back to the card */
#define AMOUNT(c) ((c) == 0 -> 2 : 1)
#define TILL(c) ((c) == 1)           /* one till asks for 0 and for what is reused, another for 1 */

#define T0 0                         /* the title that the card was loaded with */
#define PAID(c) (1 + (c))            /* the payee's title, if claim c settles */
#ifdef MUTANT_TITLE_REUSED
#define BACK(c) T0
#else
#define BACK(c) (1 + PAYMENTS + (c)) /* the payer's title, if claim c is reclaimed */
#endif
#define TITLES (1 + 2 * PAYMENTS)
#define NEVER 255

/* The card and its clone: what is in flash. ptr[1] and what follows from it belong to the clone. */
byte ptr[2];
bool cloned;
#ifdef CLONE
#define HOLDER(c) ((c) == 1)         /* the clone pays request 1 */
#else
#define HOLDER(c) 0
#endif

/* Claims. signed: it is in its card's log; out: its bytes have left the card. */
bool inlog[PAYMENTS], out[PAYMENTS];
byte title[PAYMENTS], lo[PAYMENTS], hi[PAYMENTS];

/* Requests, as the tills store them. */
mtype = { FRESH, OPEN, ANSWERED, VOIDED, CANCELLED };
mtype request[PAYMENTS] = FRESH;
bool refused[PAYMENTS];              /* the card said that it has not enough */
bool said[PAYMENTS];                 /* the cashier has been told "paid" */
bool deposited[PAYMENTS];
bool mortal[2], dead[2];             /* a till that is lost, with all that it holds */

/* The center. */
mtype = { NONE, SETTLED, DISPUTED, EXPIRED, VOIDED_THERE, RECLAIMED };
bool live[TITLES * FEN];             /* which fen are live under which title */
mtype first[PAYMENTS] = NONE;        /* what a deposit of the claim brings, for ever */
mtype now[PAYMENTS] = NONE;          /* what has become of it */
bool arrived[PAYMENTS];              /* the till's own deposit of it reached the center */
bool intime[PAYMENTS];               /* ... before deadline and grace were over */
bool voided[PAYMENTS], barred[PAYMENTS]; /* a void is registered; before any deposit was */
byte against[PAYMENTS] = NEVER;      /* evidence: the earlier claim on the same fen of the same title */
bool blacklisted;
byte phase;                          /* 0, 1: before the deadline, in the grace; 2: over, but for REUSE; 3 */
bool relay;                          /* somebody deposits whatever claim has left a card */

byte u, t, d, k;                     /* scratch of steps, zero between them */

#define OVER(c) (phase >= ((c) == REUSE -> 3 : 2))
#define MOVED(x) ((x) == SETTLED || (x) == RECLAIMED)
#define OVERLAP(a, b) (title[a] == title[b] && lo[a] < hi[b] && lo[b] < hi[a])

/* Each fen of the coin is live under exactly one title. */
inline conserved() {
	u = 0;
	do
	:: u < FEN ->
		k = 0; t = 0;
		do
		:: t < TITLES -> k = k + live[t * FEN + u]; t++
		:: else -> break
		od;
		assert(k == 1);
		u++
	:: else -> break
	od;
	u = 0; k = 0; t = 0
}

/* k: whether the whole interval of claim c is live under its title. */
inline is_live(c) {
	k = 1; u = lo[c];
	do
	:: u < hi[c] -> k = k && live[title[c] * FEN + u]; u++
	:: else -> break
	od;
	u = 0
}

/* The one place where money moves. */
inline move(c, to) {
	u = lo[c];
	do
	:: u < hi[c] -> live[title[c] * FEN + u] = false; live[(to) * FEN + u] = true; u++
	:: else -> break
	od;
	u = 0;
	conserved()
}

/* The interval is not wholly live: some of it left the title by an earlier claim, the evidence. */
inline dispute(c) {
	d = 0;
	do
	:: d < PAYMENTS && !(d != c && MOVED(now[d]) && OVERLAP(c, d)) -> d++
	:: else -> break
	od;
	assert(d < PAYMENTS);
#ifndef MUTANT_OVERLAP_FORGOTTEN
	against[c] = d;
	blacklisted = true;
#endif
	d = 0
}

/* A deposit of claim c, which is new to the center. */
inline settle(c) {
	if
#ifndef MUTANT_VOID_IGNORED
	:: voided[c] -> first[c] = VOIDED_THERE
#endif
	:: else ->
		if
		:: OVER(c) -> first[c] = EXPIRED
		:: else ->
			is_live(c);
#ifdef MUTANT_LIVE_UNCHECKED
			k = 1;
#endif
			if
			:: k -> k = 0; first[c] = SETTLED; move(c, PAID(c))
			:: else -> first[c] = DISPUTED; dispute(c)
			fi
		fi
	fi;
	now[c] = first[c]
}

/* The payer wants claim c back. */
inline reclaim(c) {
	is_live(c);
	if
	:: k -> k = 0; now[c] = RECLAIMED; move(c, BACK(c))
	:: else ->
		now[c] = DISPUTED;
		if
		:: first[c] == NONE -> dispute(c)
		:: else
		fi
	fi;
	if
	:: first[c] == NONE -> first[c] = now[c]
	:: else
	fi
}

/* A holder's answer to a request that is not in its log: the next fen of a title. One write: claim and
 * pointer. A tear before it changes nothing; a tear after it only delays when the bytes leave. */
inline sign(c, from, start, amount) {
	d = 0;
	do
	:: d < PAYMENTS ->
		assert(d == c || !inlog[d] || HOLDER(d) != HOLDER(c) || title[d] != from ||
			start >= hi[d] || lo[d] >= start + amount);
		d++
	:: else -> break
	od;
	d = 0;
	title[c] = from; lo[c] = start; hi[c] = start + amount;
	inlog[c] = true
}

/* The card, or its clone, and payment c. */
proctype Holder(byte c) {
end:	do
	:: atomic {
		c != REUSE && request[c] == OPEN && !inlog[c] && !refused[c] &&
			(HOLDER(c) == 0 || cloned) ->
		if
		:: ptr[HOLDER(c)] + AMOUNT(c) > FEN -> refused[c] = true
		:: else ->
			sign(c, T0, ptr[HOLDER(c)], AMOUNT(c));
#ifdef MUTANT_ANSWER_BEFORE_WRITE
			out[c] = true;
			if
			:: true
			:: true -> ptr[HOLDER(c)] = ptr[HOLDER(c)] + AMOUNT(c)
			fi
#else
			ptr[HOLDER(c)] = ptr[HOLDER(c)] + AMOUNT(c)
#endif
		fi
	   }
	:: atomic { /* the card was online, and has the title of what came back */
		c == REUSE && request[c] == OPEN && !inlog[c] &&
			(now[0] == RECLAIMED || now[1] == RECLAIMED) ->
		if
		:: now[0] == RECLAIMED -> sign(c, BACK(0), lo[0], 1)
		:: now[1] == RECLAIMED -> sign(c, BACK(1), lo[1], 1)
		fi
	   }
	:: atomic { inlog[c] && !out[c] -> out[c] = true } /* the answer, at once or to a retry */
#ifdef MUTANT_RETRY_SIGNS_ANEW
	:: atomic { /* the answer was lost, the till asks again */
		c != REUSE && out[c] && request[c] == OPEN && ptr[HOLDER(c)] + AMOUNT(c) <= FEN ->
		assert(lo[c] == ptr[HOLDER(c)])
	   }
#endif
	od
}

/* A till and its request c. It may be lost for good at any time, and then does nothing any more. */
proctype Till(byte c) {
end:	do
	:: atomic { !dead[TILL(c)] && request[c] == FRESH -> request[c] = OPEN }
#ifdef MUTANT_PAID_BEFORE_STORED
	:: atomic { !dead[TILL(c)] && request[c] == OPEN && out[c] && !said[c] -> said[c] = true }
	:: atomic { !dead[TILL(c)] && said[c] && request[c] == OPEN -> request[c] = ANSWERED }
#else
	:: atomic {
		!dead[TILL(c)] && request[c] == OPEN && out[c] ->
		request[c] = ANSWERED; said[c] = true
	   }
#endif
	:: atomic { !dead[TILL(c)] && request[c] == OPEN -> request[c] = VOIDED }
	:: atomic { !dead[TILL(c)] && request[c] == OPEN && refused[c] -> request[c] = CANCELLED }
	:: atomic {
		!dead[TILL(c)] && request[c] == ANSWERED && !deposited[c] -> deposited[c] = true
	   }
	od
}

/* The center, and what reaches it about claim c. What it has answered once, it answers again. */
proctype Center(byte c) {
end:	do
	:: atomic {
		deposited[c] && !arrived[c] ->
		arrived[c] = true; intime[c] = !OVER(c);
#ifndef MUTANT_SETTLED_TWICE
		if
		:: first[c] != NONE
		:: else -> settle(c)
		fi
#else
		settle(c)
#endif
	   }
	:: atomic { relay && out[c] && first[c] == NONE -> settle(c) }
	:: atomic {
		!voided[c] && !dead[TILL(c)] &&
#ifdef MUTANT_VOID_AFTER_ANSWER
			(request[c] == ANSWERED ||
#else
			(
#endif
			request[c] == VOIDED) ->
		voided[c] = true; barred[c] = (first[c] == NONE)
	   }
#ifndef MUTANT_NO_RECLAIM
	:: atomic {
		inlog[c] && (first[c] == NONE || now[c] == EXPIRED || now[c] == VOIDED_THERE) &&
#ifdef MUTANT_RECLAIMED_EARLY
			true
#else
			(OVER(c) || voided[c])
#endif
			-> reclaim(c)
	   }
#endif
	od
}

/* Time, tills that are lost, and the moment in which the whole card is copied. */
proctype Fate() {
end:	do
	:: atomic { phase < 3 -> phase++ }
	:: atomic { mortal[0] && !dead[0] -> dead[0] = true }
	:: atomic { mortal[1] && !dead[1] -> dead[1] = true }
#ifdef CLONE
	:: atomic { !cloned -> cloned = true; ptr[1] = ptr[0] }
#endif
	od
}

/* When nothing more can happen. */
proctype Judge() {
	byte c, other;
	timeout -> atomic {
		assert(phase == 3);
		assert(cloned || !blacklisted);                 /* nobody honest is accused */
		do
		:: c < PAYMENTS ->
			/* What was signed away has an end: it is the payee's, or came back. */
			assert(!inlog[c] || MOVED(now[c]) || (cloned && now[c] == DISPUTED));
			/* "Paid" was said of what is stored, and brings the money if it is deposited in time. */
			assert(!said[c] || request[c] == ANSWERED);
			assert(!(request[c] == ANSWERED && intime[c]) || first[c] == SETTLED ||
				(cloned && first[c] == DISPUTED));
			/* What was given up came back, unless somebody else had deposited it before. */
			assert(request[c] != VOIDED || !inlog[c] || relay || cloned ||
				now[c] == RECLAIMED);
			/* A void bars its claim for ever. */
			assert(!barred[c] || first[c] != SETTLED);
			/* Two claims on the same fen of one title: one has them at most, and there is evidence. */
			other = 0;
			do
			:: other < c ->
				assert(!inlog[c] || !inlog[other] || !OVERLAP(c, other) ||
					!(MOVED(first[c]) || first[c] == DISPUTED) ||
					!(MOVED(first[other]) || first[other] == DISPUTED) ||
					(!(MOVED(first[c]) && MOVED(first[other])) &&
						(against[c] != NEVER || against[other] != NEVER)));
				other++
			:: else -> break
			od;
			c++
		:: else -> break
		od;
		/* Below its pointer a card never signs again: nothing there may be left to it. */
		u = 0;
		do
		:: u < ptr[0] -> assert(cloned || !live[T0 * FEN + u]); u++
		:: else -> break
		od
	}
}

init {
	atomic {
		k = 0;
		do
		:: k < FEN -> live[k] = true; k++
		:: else -> break
		od;
		if :: true :: true -> mortal[0] = true fi;
		if :: true :: true -> mortal[1] = true fi;
		if :: true :: true -> relay = true fi;
		k = 0;
		do
		:: k < PAYMENTS -> run Holder(k); run Till(k); run Center(k); k++
		:: else -> k = 0; break
		od;
		run Fate(); run Judge()
	}
}
