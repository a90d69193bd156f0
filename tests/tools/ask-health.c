/*
 * ask-health MONITORS USER KEYRING
 *
 * A client of a cluster, which asks for its health each time that a line comes: prints the clause,
 * and how many threads the process has then.
 */
#include <dirent.h>
#include <err.h>
#include <stdio.h>

#include "image/health.h"

#define SECONDS 1

static int count_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int count = 0;

	if (!tasks)
		err(1, "/proc/self/task");
	for (struct dirent *entry; (entry = readdir(tasks));)
		count += entry->d_name[0] != '.';
	closedir(tasks);
	return count;
}

int main(int argc, char **argv)
{
	struct rbd_client_config config = { .conf = "" };
	struct error error = ERROR_NONE;
	struct rbd_client *client;
	char clause[256];
	int c;

	if (argc != 4)
		errx(2, "usage: ask-health MONITORS USER KEYRING");
	config.monitors = argv[1];
	config.user = argv[2];
	config.keyring = argv[3];
	if (rbd_client_connect(&config, &client, &error) < 0)
		errx(1, "%s", error.text);
	while ((c = getchar()) != EOF) {
		if (c != '\n')
			continue;
		cluster_health(client, SECONDS, clause, sizeof(clause));
		printf("%d threads: %s\n", count_threads(), clause);
		fflush(stdout);
	}
	return 0;
}
