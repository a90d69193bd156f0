#include "image/health.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bounded.h"
#include "image/client-rados.h"

#define WORDS_MAX 160

struct health_job {
	struct bounded bounded;
	struct rbd_client *client; /* a reference */
	char name[320];		   /* of the questions of this client */
	int result;
	char words[WORDS_MAX];
};

/* "HEALTH_WARN 1 pool(s) full; ..." on one line. */
static void keep_words(struct health_job *job, const char *answer, size_t length)
{
	snprintf(job->words, sizeof(job->words), "%.*s", (int)length, answer);
	job->words[strcspn(job->words, "\n")] = 0;
}

static void ask(struct bounded *bounded)
{
	struct health_job *job = container_of(bounded, struct health_job, bounded);
	const char *command = "{\"prefix\":\"health\",\"format\":\"plain\"}";
	char *answer = NULL, *remarks = NULL;
	size_t length = 0, remarks_length = 0;

	job->result = rados_mon_command(rbd_client_cluster(job->client), &command, 1, "", 0,
					&answer, &length, &remarks, &remarks_length);
	if (job->result >= 0)
		keep_words(job, answer, length);
	rados_buffer_free(answer);
	rados_buffer_free(remarks);
}

static void free_job(struct health_job *job)
{
	rbd_client_unref(job->client);
	free(job);
}

static void abandon(struct bounded *bounded)
{
	free_job(container_of(bounded, struct health_job, bounded));
}

static void explain(int code, const char *words, char *text, size_t size)
{
	if (code == -ETIMEDOUT)
		snprintf(text, size, "the monitors of its cluster do not answer either");
	else if (code < 0)
		snprintf(text, size, "its cluster does not tell why (%s)", errno_text(code));
	else
		snprintf(text, size, "its cluster says %s", words);
}

void cluster_health(struct rbd_client *client, unsigned timeout, char *text, size_t size)
{
	struct health_job *job = calloc(1, sizeof(*job));
	int r;

	if (!job) {
		explain(-ENOMEM, "", text, size);
		return;
	}
	job->bounded.run = ask;
	job->bounded.abandoned = abandon;
	job->client = rbd_client_ref(client);
	snprintf(job->name, sizeof(job->name), "health %s", rbd_client_address(client));
	job->bounded.name = job->name;
	r = bounded_run(&job->bounded, timeout);
	if (r == -ETIMEDOUT || r == -EALREADY) {
		explain(-ETIMEDOUT, "", text, size);
		return;
	}
	explain(r < 0 ? r : job->result, job->words, text, size);
	free_job(job);
}
