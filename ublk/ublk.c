#include "ublk/ublk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "core/partitions.h"
#include "ublk/abi.h"
#include "ublk/control.h"
#include "ublk/hw_queue.h"
#include "ublk/info.h"
#include "ublk/leftover.h"
#include "ublk/node.h"
#include "ublk/params.h"
#include "ublk/probe.h"
#include "ublk/reclaim.h"

#define SECTOR_SHIFT   9
#define PROBE_DEADLINE 10 /* seconds */
#define PAUSE_MAX_MS   50
#define OPEN_MS	       2000
#define OPEN_PAUSE_MS  5

/* What is asked of every kernel that offers it. */
#define WANTED_FEATURES                                                                  \
	(UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE | UBLK_F_CMD_IOCTL_ENCODE | \
	 UBLK_F_UPDATE_SIZE)

/*
 * One device. Its steps are undone in reverse by detach() and destroy(), which must manage every
 * half-made state: each member that a step makes says by itself whether it is there.
 */
struct ublk {
	struct frontend base;
	struct queue *queues[FRONTEND_HW_QUEUES_MAX];
	struct ublk_offer offer;
	uint64_t granted; /* UBLK_F_* of this device */
	bool added;	  /* the kernel has the device, and it is ours: DEL_DEV is due */
	bool offered;	  /* tags were given to the kernel: STOP_DEV is due */
	int char_fd;	  /* /dev/ublkcN, or -1. The kernel lets one open it at a time. */
	struct ublk_node char_node, block_node;
	unsigned nr_hw_queues;
	struct hw_queue *hw_queues[FRONTEND_HW_QUEUES_MAX];
};

static struct ublk *ublk_of(struct frontend *frontend)
{
	return container_of(frontend, struct ublk, base);
}

static struct ublk_control command(const struct ublk *ublk, unsigned opcode)
{
	return (struct ublk_control){
		.opcode = opcode,
		.ioctl_encode = ublk->offer.ioctl_encode,
		.device = (uint32_t)ublk->base.number,
		.deadline = ublk->base.config.deadline,
	};
}

static unsigned sum(const struct ublk *ublk, unsigned (*of)(const struct hw_queue *))
{
	unsigned total = 0;

	for (unsigned i = 0; i < ublk->nr_hw_queues; i++)
		total += of(ublk->hw_queues[i]);
	return total;
}

static void fail_all(void *data)
{
	struct ublk *ublk = data;

	for (unsigned i = 0; i < ublk->nr_hw_queues; i++)
		ublk_hw_queue_fail(ublk->hw_queues[i]);
}

/* Waits until the counter is 0, or until @deadline, if any; looks less and less often. */
static bool wait_zero(const struct ublk *ublk, unsigned (*of)(const struct hw_queue *),
		      const struct timespec *deadline)
{
	unsigned pause = 1;

	while (sum(ublk, of) > 0) {
		if (deadline && deadline_passed(deadline))
			return false;
		pause_ms(pause);
		pause = MIN(pause * 2, PAUSE_MAX_MS);
	}
	return true;
}

/* Making. */

static int probe(struct error *err)
{
	struct ublk_offer offer;

	return ublk_probe_offer(PROBE_DEADLINE, &offer, err);
}

static int check_config(const struct frontend_config *config, struct error *err)
{
	if (config->nr_queues < 1 || config->nr_queues > FRONTEND_HW_QUEUES_MAX)
		return error_set(err, -EINVAL, "a device has 1 to %d hardware queues, not %u",
				 FRONTEND_HW_QUEUES_MAX, config->nr_queues);
	if (config->depth < 1 || config->depth > FRONTEND_DEPTH_MAX)
		return error_set(err, -EINVAL, "a hardware queue is 1 to %d requests deep, not %u",
				 FRONTEND_DEPTH_MAX, config->depth);
	return 0;
}

static struct ublk *ublk_alloc(const struct frontend_config *config)
{
	struct ublk *ublk = calloc(1, sizeof(*ublk));

	if (!ublk)
		return NULL;
	ublk->base.ops = &ublk_frontend;
	ublk->base.config = *config;
	ublk->base.number = config->number;
	ublk->char_fd = -1;
	for (unsigned i = 0; i < FRONTEND_HW_QUEUES_MAX; i++)
		ublk->queues[i] = config->queues[i % config->nr_queues];
	ublk->base.config.queues = ublk->queues;
	ublk->base.config.name = strdup(config->name ? config->name : "");
	if (!ublk->base.config.name) {
		free(ublk);
		return NULL;
	}
	return ublk;
}

static void ublk_free(struct ublk *ublk)
{
	free((void *)ublk->base.config.name);
	free(ublk);
}

static void describe_features(struct ublk *ublk)
{
	static const struct {
		uint64_t flag;
		const char *word;
	} words[] = {
		{ UBLK_F_USER_RECOVERY, "user-recovery" },
		{ UBLK_F_USER_RECOVERY_REISSUE, "reissue" },
		{ UBLK_F_CMD_IOCTL_ENCODE, "ioctl-encode" },
		{ UBLK_F_UPDATE_SIZE, "update-size" },
		{ UBLK_F_QUIESCE, "quiesce" },
	};
	char *text = ublk->base.features;
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (ublk->granted & words[i].flag)
			used += (size_t)snprintf(text + used, sizeof(ublk->base.features) - used,
						 "%s%s", used ? " " : "", words[i].word);
}

static void adopt(struct ublk *ublk, const struct ublksrv_ctrl_dev_info *info)
{
	ublk->granted = info->flags;
	ublk->base.number = (int)info->dev_id;
	/* The kernel makes no more queues than there are CPUs. */
	ublk->base.config.nr_queues = info->nr_hw_queues;
	ublk->base.config.depth = info->queue_depth;
	snprintf(ublk->base.device, sizeof(ublk->base.device), "/dev/ublkb%u", info->dev_id);
	describe_features(ublk);
}

static int explain_add(int r, const struct ublk *ublk, struct error *err)
{
	if (r == -EEXIST)
		return error_set(err, r,
				 "/dev/ublkb%d is taken: another ublk device has its number",
				 ublk->base.number);
	if (r == -EACCES)
		return error_set(err, r,
				 "the kernel's limit of ublk devices is reached: raise "
				 "/sys/module/ublk_drv/parameters/ublks_max, or, where that is "
				 "read-only, ublk_drv's option ublks_max in /etc/modprobe.d");
	if (r == -ENOMEM)
		return error_set(err, r,
				 "the kernel has no memory for the device: use fewer queues or a "
				 "smaller queue depth");
	return r;
}

static int add_device(struct ublk *ublk, struct error *err)
{
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = (uint16_t)ublk->base.config.nr_queues,
		.queue_depth = (uint16_t)ublk->base.config.depth,
		.max_io_buf_bytes = FRONTEND_MAX_IO,
		.dev_id = (uint32_t)ublk->base.number, /* -1: any */
		.ublksrv_pid = -1,
		.flags = ublk->offer.features & WANTED_FEATURES,
		.ublksrv_flags = ublk->base.config.owner, /* the driver only keeps it */
	};
	struct ublk_control add = command(ublk, UBLK_U_CMD_ADD_DEV);
	int r;

	add.payload = &info;
	add.size = sizeof(info);
	r = ublk_control_check(&add, err);
	if (r == -EOPNOTSUPP && !add.ioctl_encode) {
		/* Linux 6.4 may insist on the encoding, but cannot be asked what it offers. */
		add.ioctl_encode = ublk->offer.ioctl_encode = true;
		r = ublk_control_check(&add, err);
	}
	if (r < 0)
		return explain_add(r, ublk, err);
	ublk->added = true;
	adopt(ublk, &info);
	return 0;
}

/* Somebody who looks whether the device is open has it so for a moment, see leftover.c. */
static int open_alone(const char *path)
{
	struct timespec deadline = deadline_in_ms(OPEN_MS);
	int fd;

	while ((fd = open(path, O_RDWR | O_CLOEXEC)) < 0 && errno == EBUSY &&
	       !deadline_passed(&deadline))
		pause_ms(OPEN_PAUSE_MS);
	return fd < 0 ? -errno : fd;
}

static int open_char_device(struct ublk *ublk, struct error *err)
{
	char path[32], dev_file[64];
	int r;

	snprintf(path, sizeof(path), "/dev/ublkc%d", ublk->base.number);
	snprintf(dev_file, sizeof(dev_file), "/sys/class/ublk-char/ublkc%d/dev", ublk->base.number);
	r = ublk_node_ensure(path, dev_file, S_IFCHR, &ublk->char_node, err);
	if (r < 0)
		return r;
	ublk->char_fd = r = open_alone(path);
	if (r < 0)
		return error_set(err, r, "cannot open %s: %s", path, errno_text(r));
	return 0;
}

static void close_char_device(struct ublk *ublk)
{
	for (unsigned i = 0; i < ublk->nr_hw_queues; i++)
		ublk_hw_queue_detach(ublk->hw_queues[i]);
	if (ublk->char_fd >= 0)
		close(ublk->char_fd);
	ublk->char_fd = -1;
	ublk_node_remove(&ublk->char_node);
}

static int make_hw_queues(struct ublk *ublk, struct error *err)
{
	const struct frontend_config *config = &ublk->base.config;

	for (unsigned i = 0; i < config->nr_queues; i++) {
		const struct hw_queue_config hw_config = {
			.char_fd = ublk->char_fd,
			.index = i,
			.depth = config->depth,
			.home = config->queues[i],
			.image = config->image,
			.ioctl_encode = ublk->offer.ioctl_encode,
		};
		int r = ublk_hw_queue_create(&hw_config, &ublk->hw_queues[i]);

		if (r < 0)
			return error_set(err, r, "no memory for %u requests of %s: %s",
					 config->depth, ublk->base.device, errno_text(r));
		ublk->nr_hw_queues++;
	}
	return 0;
}

static int open_queues(struct ublk *ublk, struct error *err)
{
	int r = open_char_device(ublk, err);

	return r < 0 ? r : make_hw_queues(ublk, err);
}

/* Taking back. */

static int get_info(const struct ublk *ublk, struct ublksrv_ctrl_dev_info *ret, struct error *err)
{
	return ublk_get_info(command(ublk, UBLK_U_CMD_GET_DEV_INFO), ret, err);
}

static int check_recoverable(const struct ublk *ublk, const struct ublksrv_ctrl_dev_info *info,
			     struct error *err)
{
	if (info->ublksrv_flags != ublk->base.config.owner)
		return error_set(err, -ESTALE, "somebody else has made %s", ublk->base.device);
	if (ublk_is_served(info))
		return error_set(err, -EBUSY, "process %d serves %s", info->ublksrv_pid,
				 ublk->base.device);
	if (!(info->flags & UBLK_F_USER_RECOVERY))
		return error_set(err, -ESTALE, "%s was made without recovery", ublk->base.device);
	if (info->max_io_buf_bytes > FRONTEND_MAX_IO ||
	    info->nr_hw_queues > FRONTEND_HW_QUEUES_MAX || info->queue_depth > FRONTEND_DEPTH_MAX)
		return error_set(err, -ESTALE, "%s was made with larger limits than ours",
				 ublk->base.device);
	return 0;
}

static int find_device(struct ublk *ublk, struct error *err)
{
	struct ublksrv_ctrl_dev_info info;
	int r = get_info(ublk, &info, err);

	if (r < 0)
		return r;
	adopt(ublk, &info);
	return check_recoverable(ublk, &info, err);
}

/* What an earlier recovery has left that was cut off, see reclaim.h. */
static int reclaim_queues(struct ublk *ublk, struct error *err)
{
	const struct frontend_config *config = &ublk->base.config;
	struct ublk_reclaim reclaim = {
		.nr_queues = config->nr_queues,
		.depth = config->depth,
		.ioctl_encode = ublk->offer.ioctl_encode,
	};
	int r;

	if (ublk->offer.features & UBLK_F_QUIESCE) /* a kernel that does it itself */
		return 0;
	r = open_char_device(ublk, err);
	reclaim.char_fd = ublk->char_fd;
	if (r == 0 && (r = ublk_reclaim(&reclaim)) < 0)
		error_set(err, r, "cannot prepare %s to be taken back: %s", ublk->base.device,
			  errno_text(r));
	close_char_device(ublk);
	return r;
}

static int prepare_recovery(struct ublk *ublk, struct error *err)
{
	struct ublksrv_ctrl_dev_info info;
	int r = get_info(ublk, &info, err);

	if (r == 0 && info.state == UBLK_S_DEV_LIVE)
		r = error_set(err, -EBUSY, "the last server of %s has not gone yet",
			      ublk->base.device);
	return r < 0 ? r : reclaim_queues(ublk, err);
}

static int start_recovery(struct ublk *ublk, struct error *err)
{
	struct ublk_control start = command(ublk, UBLK_U_CMD_START_USER_RECOVERY);

	return ublk_control_check(&start, err);
}

/* -EBUSY as long as the kernel has not put away what the dead server had open. */
static int when_free(struct ublk *ublk, int (*step)(struct ublk *ublk, struct error *err),
		     struct error *err)
{
	struct timespec deadline = deadline_in(ublk->base.config.deadline);
	unsigned pause = 1;
	int r;

	while ((r = step(ublk, err)) == -EBUSY && !deadline_passed(&deadline)) {
		pause_ms(pause);
		pause = MIN(pause * 2, PAUSE_MAX_MS);
	}
	return MIN(r, 0);
}

/* Whoever takes the image's lock next may count on the device. */
static int reserve_device(struct ublk *ublk, struct error *err)
{
	int r = find_device(ublk, err);

	return r < 0 ? r : when_free(ublk, prepare_recovery, err);
}

/* Only now, as close to end_recovery() as can be: who dies in between leaves work. */
static int take_back(struct ublk *ublk, struct error *err)
{
	int r = when_free(ublk, start_recovery, err);

	return r < 0 ? r : open_queues(ublk, err);
}

/* Create. */

static int create(const struct frontend_config *config, struct frontend **ret, struct error *err)
{
	struct ublk *ublk;
	int r;

	r = check_config(config, err);
	if (r < 0)
		return r;
	ublk = ublk_alloc(config);
	if (!ublk)
		return error_set(err, -ENOMEM, "out of memory");
	r = ublk_probe_offer(config->deadline, &ublk->offer, err);
	if (r == 0)
		r = config->take_back ? reserve_device(ublk, err) : add_device(ublk, err);
	if (r == 0 && !config->take_back)
		r = open_queues(ublk, err);
	if (r < 0) {
		ublk_frontend.destroy(&ublk->base);
		return r;
	}
	*ret = &ublk->base;
	return 0;
}

/* Start. */

static int set_params(struct ublk *ublk, struct error *err)
{
	struct ublk_control set = command(ublk, UBLK_U_CMD_SET_PARAMS);
	struct ublk_params params;

	ublk_params_fill(&ublk->base.config.image->info, FRONTEND_MAX_IO, &params);
	set.payload = &params;
	set.size = sizeof(params);
	return ublk_control_check(&set, err);
}

static int offer_tags(struct ublk *ublk, struct error *err)
{
	ublk->offered = true;
	for (unsigned i = 0; i < ublk->nr_hw_queues; i++) {
		int r = ublk_hw_queue_fetch(ublk->hw_queues[i]);

		if (r < 0)
			return error_set(
				err, r,
				"the kernel refuses the requests of hardware queue %u of %s: "
				"%s (%s)",
				i, ublk->base.device, errno_text(r), errno_name(r));
	}
	if (sum(ublk, ublk_hw_queue_live) < ublk->nr_hw_queues * ublk->base.config.depth)
		return error_set(err, -EAGAIN, "the kernel has given requests of %s back",
				 ublk->base.device);
	return 0;
}

static int start_device(struct ublk *ublk, struct error *err)
{
	struct ublk_control control = command(ublk, UBLK_U_CMD_START_DEV);

	control.data = (uint64_t)getpid(); /* the process, whichever thread calls */
	return MIN(ublk_control_check(&control, err), 0);
}

/* An image that answers nothing yet is no use: better no device than one that hangs whoever looks.
 */
static int read_partitions(struct ublk *ublk, struct error *err)
{
	unsigned seconds = ublk->base.config.deadline;

	if (partitions_read(ublk->base.device, seconds) == 0)
		return 0;
	fail_all(ublk);
	return error_set(err, -ETIMEDOUT,
			 "the image did not answer the first reads of %s within %u s",
			 ublk->base.device, seconds);
}

static int end_recovery(struct ublk *ublk, struct error *err)
{
	struct ublk_control control = command(ublk, UBLK_U_CMD_END_USER_RECOVERY);
	int r;

	control.data = (uint64_t)getpid();
	r = ublk_control_check(&control, err);
	ublk->added = r >= 0;
	return MIN(r, 0);
}

static int find_block_node(struct ublk *ublk, struct error *err)
{
	char dev_file[64];

	snprintf(dev_file, sizeof(dev_file), "/sys/block/ublkb%d/dev", ublk->base.number);
	return ublk_node_ensure(ublk->base.device, dev_file, S_IFBLK, &ublk->block_node, err);
}

/* One that is taken back may have a file system on it, which needs no node. */
static int find_node(struct ublk *ublk, struct error *err)
{
	int r = find_block_node(ublk, err);

	if (r >= 0 || !ublk->base.config.take_back)
		return r;
	log_warning("%s is served, but not to be opened: %s", ublk->base.device, err->text);
	return 0;
}

static int start(struct frontend *frontend, struct error *err)
{
	struct ublk *ublk = ublk_of(frontend);
	bool again = frontend->config.take_back;
	int r = again ? take_back(ublk, err) : set_params(ublk, err);

	if (r >= 0)
		r = offer_tags(ublk, err);
	if (r >= 0)
		r = again ? end_recovery(ublk, err) : start_device(ublk, err);
	if (r >= 0)
		r = find_node(ublk, err);
	if (r >= 0 && !again)
		r = read_partitions(ublk, err);
	frontend->stranded = again && ublk->offered && !ublk->added;
	return MIN(r, 0);
}

/* Stop. */

/* What a stop has to wait with. */
struct patience {
	unsigned seconds; /* in all */
	struct timespec end;
};

static int unanswered(const struct ublk *ublk, unsigned requests, const struct patience *patience,
		      struct error *err)
{
	return error_set(err, -ETIMEDOUT,
			 "the image has not answered %u requests of %s within %u s: wait until its "
			 "storage is back, or unmap by force and lose them",
			 requests, ublk->base.device, patience->seconds);
}

/* Waits until the image has answered what it holds now. What comes later is STOP_DEV's to wait for.
 */
static int settle(struct ublk *ublk, const struct patience *patience, struct error *err)
{
	for (unsigned i = 0; i < ublk->nr_hw_queues; i++)
		ublk_hw_queue_watch(ublk->hw_queues[i]);
	if (wait_zero(ublk, ublk_hw_queue_watched, &patience->end))
		return 0;
	return unanswered(ublk, sum(ublk, ublk_hw_queue_watched), patience, err);
}

/* Also where the device was never started: it gives back the tags that were offered. */
static int stop_device(struct ublk *ublk, const struct patience *patience, struct error *err)
{
	struct ublk_control control = command(ublk, UBLK_U_CMD_STOP_DEV);
	struct timespec end;
	int r;

	ublk->base.ending = true;
	control.deadline = deadline_left(&patience->end);
	r = ublk_control_check(&control, err);
	if (r == -ETIMEDOUT && sum(ublk, ublk_hw_queue_at_image) > 0)
		return unanswered(ublk, sum(ublk, ublk_hw_queue_at_image), patience, err);
	if (r < 0 && r != -ENODEV)
		return r;
	end = deadline_in(deadline_left(&patience->end));
	if (!wait_zero(ublk, ublk_hw_queue_live, &end))
		return error_set(
			err, -ETIMEDOUT,
			"the kernel stopped %s but keeps %u of its requests: look for a hung "
			"task in its log",
			ublk->base.device, sum(ublk, ublk_hw_queue_live));
	ublk->offered = false;
	ublk->added = true; /* also what was to be taken back is to be deleted now */
	ublk_node_remove(&ublk->block_node);
	return 0;
}

static int stop(struct frontend *frontend, bool force, unsigned deadline, struct error *err)
{
	const struct patience patience = { deadline, deadline_in(deadline) };
	struct ublk *ublk = ublk_of(frontend);
	int r = 0;

	if (!ublk->offered)
		return 0;
	if (force)
		fail_all(ublk);
	else
		r = settle(ublk, &patience, err);
	return r < 0 ? r : stop_device(ublk, &patience, err);
}

/* Detach and destroy. */

/* Not while we hold /dev/ublkcN: the kernel would wait for us with a lock that every other ublk
 * device needs. */
static bool delete_device(struct ublk *ublk)
{
	int r = ublk_control_delete((uint32_t)ublk->base.number, ublk->offer.ioctl_encode,
				    ublk->base.config.deadline);

	return r >= 0 || r == -ENODEV; /* somebody else may have removed it */
}

static bool detach(struct frontend *frontend)
{
	struct ublk *ublk = ublk_of(frontend);
	struct error ignored;

	frontend->detached = true;
	/* To stop a device that is taken back would lose what it holds: another try may get it. */
	if (ublk->offered && ublk->base.config.take_back && !ublk->added)
		return false;
	if (ublk->offered && stop(frontend, true, frontend->config.deadline, &ignored) < 0)
		return false;
	close_char_device(ublk);
	return ublk->added ? delete_device(ublk) : !ublk->base.config.take_back;
}

static void destroy(struct frontend *frontend)
{
	struct ublk *ublk;

	if (!frontend)
		return;
	ublk = ublk_of(frontend);
	if (!frontend->detached)
		detach(frontend);
	/* The kernel hangs with our tags: they and their memory are left to it. */
	if (ublk->offered)
		return;
	wait_zero(ublk, ublk_hw_queue_at_image, 0);
	for (unsigned i = 0; i < ublk->nr_hw_queues; i++)
		ublk_hw_queue_destroy(ublk->hw_queues[i]);
	ublk_free(ublk);
}

static void trim(struct frontend *frontend)
{
	struct ublk *ublk = ublk_of(frontend);

	for (unsigned i = 0; i < ublk->nr_hw_queues; i++)
		ublk_hw_queue_trim(ublk->hw_queues[i]);
}

/*
 * The kernel checks nothing: without a block device, before START_DEV or after STOP_DEV, it crashes
 * unless it has a fix of Linux 7.0. It waits for no request either. Those that are on their way to
 * what a smaller image has no more are refused by the image.
 */
static int resize(struct frontend *frontend, uint64_t size, struct error *err)
{
	struct ublk *ublk = ublk_of(frontend);
	struct ublk_control control = command(ublk, UBLK_U_CMD_UPDATE_SIZE);
	int r;

	if (!(ublk->granted & UBLK_F_UPDATE_SIZE))
		return error_set(
			err, -EOPNOTSUPP,
			"this kernel cannot resize a live ublk device (Linux 6.16 can): unmap "
			"%s and map it again",
			ublk->base.device);
	control.data = size >> SECTOR_SHIFT;
	r = ublk_control_check(&control, err);
	return MIN(r, 0);
}

const struct frontend_ops ublk_frontend = {
	.name = "ublk",
	.path_prefix = "/dev/ublkb",
	.orphan = ublk_orphan,
	.hw_queues_default = 4,
	.probe = probe,
	.create = create,
	.start = start,
	.stop = stop,
	.detach = detach,
	.destroy = destroy,
	.trim = trim,
	.resize = resize,
	.look = ublk_look,
	.discard = ublk_discard,
	.discard_unstarted = ublk_discard_unstarted,
};
