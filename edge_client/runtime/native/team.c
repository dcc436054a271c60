/* Threads that share the units of a call. They sleep while there is nothing to share: a board has
 * other things to do, and a spinning thread that loses its core stops all others. The caller never
 * waits for a thread to wake up: it takes chunk after chunk itself until none is left, and then
 * waits only for chunks that others have begun. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "operations.h"

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t offered, finished;
    const call *shared; /* what can be joined; NULL: nothing */
    int64_t batch;
    _Atomic int64_t next; /* the first unit that nobody has taken */
    int32_t joined;       /* threads at work on it, the caller aside */
    int32_t stopping, size;
    pthread_t threads[];
} team;

static void take_chunks(team *t, const call *c, int64_t batch) {
    for (;;) {
        int64_t from = atomic_fetch_add_explicit(&t->next, c->chunk, memory_order_relaxed);
        if (from >= c->units) return;
        int64_t to = c->units - from < c->chunk ? c->units : from + c->chunk;
        c->function(c->arguments, batch, from, to);
    }
}

static void *work(void *argument) {
    team *t = argument;
    pthread_mutex_lock(&t->lock);
    while (!t->stopping) {
        const call *c = t->shared;
        if (c == NULL || atomic_load_explicit(&t->next, memory_order_relaxed) >= c->units) {
            pthread_cond_wait(&t->offered, &t->lock);
            continue;
        }
        int64_t batch = t->batch;
        t->joined++;
        pthread_mutex_unlock(&t->lock);
        take_chunks(t, c, batch);
        pthread_mutex_lock(&t->lock);
        if (--t->joined == 0) pthread_cond_signal(&t->finished);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void share(team *t, const call *c, int64_t batch) {
    pthread_mutex_lock(&t->lock);
    t->shared = c;
    t->batch = batch;
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    pthread_cond_broadcast(&t->offered);
    pthread_mutex_unlock(&t->lock);
    take_chunks(t, c, batch);
    pthread_mutex_lock(&t->lock);
    t->shared = NULL;
    while (t->joined > 0) pthread_cond_wait(&t->finished, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

/* Ends and frees a team; no call may be running. */
void fedsparse_team_free(team *t) {
    if (t == NULL) return;
    pthread_mutex_lock(&t->lock);
    t->stopping = 1;
    pthread_cond_broadcast(&t->offered);
    pthread_mutex_unlock(&t->lock);
    for (int32_t i = 0; i < t->size; i++) pthread_join(t->threads[i], NULL);
    pthread_cond_destroy(&t->offered);
    pthread_cond_destroy(&t->finished);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* A team of `size` threads beside the caller's; NULL where the system refuses them. */
team *fedsparse_team_new(int32_t size) {
    team *t = calloc(1, sizeof(team) + sizeof(pthread_t) * (size_t)size);
    if (t == NULL) return NULL;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->offered, NULL);
    pthread_cond_init(&t->finished, NULL);
    for (; t->size < size; t->size++)
        if (pthread_create(&t->threads[t->size], NULL, work, t) != 0) {
            fedsparse_team_free(t);
            return NULL;
        }
    return t;
}

/* The calls of a program's part, one after the other; `t` may be NULL. */
void fedsparse_run(const call *calls, int64_t count, int64_t batch, team *t) {
    for (const call *c = calls; c < calls + count; c++)
        if (t == NULL || c->chunk >= c->units)
            c->function(c->arguments, batch, 0, c->units);
        else
            share(t, c, batch);
}
