#include "server/quota.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"

#define BUCKETS     ((size_t)1024)
#define CLIENT_SIZE 64

struct dscm_quota_client {
    char name[CLIENT_SIZE];
    size_t amount, shares; /* freed with the last share */
    struct dscm_quota_client *next;
};

struct dscm_quota {
    size_t total, each;
    pthread_mutex_t lock; /* everything below */
    size_t used;
    struct dscm_quota_client *clients[BUCKETS];
};

dscm_code dscm_quota_open(dscm_quota **out, size_t total, size_t each, dscm_error *err)
{
    dscm_quota *quota = dscm_alloc(1, sizeof *quota, "a quota", err);
    if (!quota) return DSCM_E_MEMORY;
    quota->total = total ? total : SIZE_MAX;
    quota->each = each ? each : SIZE_MAX;
    pthread_mutex_init(&quota->lock, NULL);
    *out = quota;
    return DSCM_OK;
}

void dscm_quota_free(dscm_quota *quota)
{
    if (!quota) return;
    pthread_mutex_destroy(&quota->lock);
    dscm_free(quota);
}

/* FNV-1a: a client chooses neither its address nor its key's name. */
static struct dscm_quota_client **chain_of(dscm_quota *quota, const char *name)
{
    uint64_t hash = 14695981039346656037u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    return &quota->clients[hash % BUCKETS];
}

/* With the lock held: the client's account, made when there is none. NULL without memory. */
static struct dscm_quota_client *client_of(dscm_quota *quota, const char *name)
{
    struct dscm_quota_client **chain = chain_of(quota, name), *client = *chain;
    while (client && strncmp(client->name, name, CLIENT_SIZE - 1) != 0) client = client->next;
    if (client) return client;
    client = dscm_alloc(1, sizeof *client, "a client's account", NULL);
    if (!client) return NULL;
    snprintf(client->name, sizeof client->name, "%s", name);
    client->next = *chain;
    *chain = client;
    return client;
}

/* With the lock held: an account that no share names is freed. */
static void settle(dscm_quota *quota, struct dscm_quota_client *client)
{
    if (client->shares) return;
    struct dscm_quota_client **link = chain_of(quota, client->name);
    while (*link != client) link = &(*link)->next;
    *link = client->next;
    dscm_free(client);
}

dscm_quota_result dscm_quota_take(dscm_quota *quota, const char *name, dscm_quota_share *share,
                                  size_t amount)
{
    dscm_quota_result result = DSCM_QUOTA_TAKEN;
    pthread_mutex_lock(&quota->lock);
    struct dscm_quota_client *client = share->client ? share->client : client_of(quota, name);
    if (!client)
        result = DSCM_QUOTA_NO_MEMORY;
    else if (amount > quota->each || client->amount > quota->each - amount)
        result = DSCM_QUOTA_CLIENT_FULL;
    else if (amount > quota->total || quota->used > quota->total - amount)
        result = DSCM_QUOTA_FULL;
    if (result == DSCM_QUOTA_TAKEN) {
        if (!share->client) client->shares++;
        client->amount += amount;
        quota->used += amount;
        *share = (dscm_quota_share){quota, client, share->amount + amount};
    } else if (client) {
        settle(quota, client);
    }
    pthread_mutex_unlock(&quota->lock);
    return result;
}

void dscm_quota_return(dscm_quota_share *share)
{
    dscm_quota *quota = share->quota;
    if (!quota) return;
    pthread_mutex_lock(&quota->lock);
    share->client->amount -= share->amount;
    share->client->shares--;
    quota->used -= share->amount;
    settle(quota, share->client);
    pthread_mutex_unlock(&quota->lock);
    *share = (dscm_quota_share){0};
}

size_t dscm_quota_held(const dscm_quota_share *share)
{
    if (!share->quota) return 0;
    pthread_mutex_lock(&share->quota->lock);
    size_t held = share->client->amount;
    pthread_mutex_unlock(&share->quota->lock);
    return held;
}

size_t dscm_quota_used(dscm_quota *quota)
{
    pthread_mutex_lock(&quota->lock);
    size_t used = quota->used;
    pthread_mutex_unlock(&quota->lock);
    return used;
}
