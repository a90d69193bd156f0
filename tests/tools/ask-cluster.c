/*
 * ask-cluster MONITORS USER KEYRING
 *
 * A client of a cluster. For each line that comes it asks for the cluster's health, where the line
 * is empty, or else to fence the client at that address: prints what came of it, after the number
 * of threads that the process has then.
 */
#include <dirent.h>
#include <err.h>
#include <stdio.h>
#include <string.h>

#include "image/fence.h"
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

static void ask(struct rbd_client *client, const char *line, char *text, size_t size)
{
	struct error error = ERROR_NONE;

	if (!*line)
		cluster_health(client, SECONDS, text, size);
	else
		snprintf(text, size, "%s",
			 fence_client(client, line, "an image", SECONDS, &error) < 0 ? error.text
										     : "fenced");
}

int main(int argc, char **argv)
{
	struct rbd_client_config config = { .conf = "" };
	struct error error = ERROR_NONE;
	struct rbd_client *client;
	char line[256], text[ERROR_TEXT_MAX];

	if (argc != 4)
		errx(2, "usage: ask-cluster MONITORS USER KEYRING");
	config.monitors = argv[1];
	config.user = argv[2];
	config.keyring = argv[3];
	if (rbd_client_connect(&config, &client, &error) < 0)
		errx(1, "%s", error.text);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		ask(client, line, text, sizeof(text));
		printf("%d threads: %s\n", count_threads(), text);
		fflush(stdout);
	}
	return 0;
}
