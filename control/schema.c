#include "control/schema.h"

#include <string.h>

#include "control/check.h"

/* The methods. How they are checked stands in check.c. */

#define NUMBER(n) #n
#define TEXT(n)	  NUMBER(n)

#define HW_QUEUES_MAX	 32
#define DEPTH_MAX	 1024
#define TIMEOUT_MAX	 86400
#define NAME_MAX_BYTES	 1024
#define PATH_MAX_BYTES	 4095
#define TEXT_MAX_BYTES	 4096
#define OPTIONS_MAX	 256
#define LISTEN_MAX_BYTES 500
#define CONNECTIONS_MAX	 65536
#define IMAGE_SIZE_MIN	 512
#define IMAGE_SIZE_MAX	 (INT64_C(1) << 60)

/* What names an image, for the methods that are about one. */
static const struct control_member image_names[] = {
	{ .name = "pool",
	  .kind = CONTROL_NAME,
	  .max = NAME_MAX_BYTES,
	  .fallback = "`rbd`",
	  .doc = "rbd: the pool that holds the image." },
	{ .name = "namespace",
	  .kind = CONTROL_NAME,
	  .max = NAME_MAX_BYTES,
	  .fallback = "the default one",
	  .doc = "rbd: the namespace within the pool." },
	{ .name = "image",
	  .kind = CONTROL_NAME,
	  .min = 1,
	  .max = NAME_MAX_BYTES,
	  .doc = "rbd, required: the image." },
	{ .name = "snapshot",
	  .kind = CONTROL_NAME,
	  .max = NAME_MAX_BYTES,
	  .fallback = "the image itself",
	  .doc = "rbd: a snapshot of the image; a device of it is read-only." },
	{ .name = "path",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .doc = "file, required: the file or block device that serves as image." },
	{ 0 },
};

/* And which kind it is of, where that may be any. */
static const struct control_member image_kind[] = {
	{ .name = "type",
	  .kind = CONTROL_CHOICE,
	  .choices = "rbd|file|null",
	  .fallback = "`rbd`",
	  .doc = "The kind of image. Each kind takes the members marked with its name." },
	{ .name = "size",
	  .kind = CONTROL_INTEGER,
	  .min = IMAGE_SIZE_MIN,
	  .max = IMAGE_SIZE_MAX,
	  .doc = "null, required: bytes." },
	{ 0 },
};

/* How an image is opened, for `map` and `export`. */
static const struct control_member open_params[] = {
	{ .name = "user",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = NAME_MAX_BYTES,
	  .fallback = "`admin`",
	  .doc = "rbd: the cluster's user, without the `client.` before it." },
	{ .name = "monitors",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = TEXT_MAX_BYTES,
	  .fallback = "those of `conf`",
	  .doc = "rbd: the monitors' addresses with commas between them." },
	{ .name = "key",
	  .kind = CONTROL_STRING,
	  .secret = true,
	  .min = 1,
	  .max = NAME_MAX_BYTES,
	  .fallback = "the one in the keyring",
	  .doc = "rbd: the user's key. It is never shown or logged." },
	{ .name = "keyring",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .fallback = "the one that `conf` names",
	  .doc = "rbd: a keyring file that holds the user's key." },
	{ .name = "conf",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .fallback = "Ceph's default files, if there are any",
	  .doc = "rbd: a ceph.conf." },
	{ .name = "options",
	  .kind = CONTROL_OPTIONS,
	  .max = OPTIONS_MAX,
	  .doc = "rbd: options of librbd and librados for this image's client, by name." },
	{ .name = "client",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = NAME_MAX_BYTES,
	  .fallback = "`pool:" TEXT(CONTROL_CLIENTS_DEFAULT) "`",
	  .doc = "rbd: which connection to the cluster serves the image: `shared`, `pool:N` "
		 "(one of up to N, 1 to " TEXT(CONTROL_CLIENTS_MAX) ") or `isolated`." },
	{ .name = "read_only",
	  .kind = CONTROL_BOOLEAN,
	  .fallback = "`false`",
	  .doc = "Whether writes are refused." },
	{ .name = "io_timeout",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = TIMEOUT_MAX,
	  .fallback = "they wait for ever",
	  .doc = "rbd: seconds after which requests that the cluster does not answer, or that are "
		 "held, fail with EIO." },
	{ .name = "quiesce",
	  .kind = CONTROL_BOOLEAN,
	  .fallback = "`false`, or `true` with `quiesce_hook`",
	  .doc = "rbd: whether a hook runs around each snapshot of the image, whoever takes it." },
	{ .name = "quiesce_hook",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .fallback = "urbd's own, which freezes what is mounted of a device",
	  .doc = "The hook, an executable file: called with the device (or the export's URI) and "
		 "`quiesce`, then `unquiesce`. If it fails or takes too long there is no "
		 "snapshot." },
	{ .name = "lock",
	  .kind = CONTROL_CHOICE,
	  .choices = "auto|exclusive|none",
	  .fallback = "`auto`",
	  .doc = "rbd: what keeps other writers away. `auto`: librbd's exclusive lock, given to "
		 "others who ask for it; an image without that feature must have no other watcher. "
		 "`exclusive`: the lock is taken at once and kept, and nobody else may hold it. "
		 "`none`: as `auto`, but watchers do not matter. Others get up to 10 seconds to "
		 "leave. What is read-only takes no lock and looks at nobody." },
	{ .name = "timeout",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = TIMEOUT_MAX,
	  .fallback = "`30`",
	  .doc = "Seconds that the whole operation may take." },
	{ .name = "fault",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = TEXT_MAX_BYTES,
	  .doc = "For tests: rules by which the image fails or delays requests." },
	{ 0 },
};

static const struct control_member map_params[] = {
	{ .name = "frontend",
	  .kind = CONTROL_CHOICE,
	  .choices = "auto|ublk|nbd",
	  .fallback = "`auto`",
	  .doc = "What makes the image a device. `auto`: ublk where the kernel has it, else "
		 "nbd." },
	{ .name = "queues",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = HW_QUEUES_MAX,
	  .fallback = "ublk: one a queue thread of the daemon, at most 4; nbd: 1",
	  .doc = "Hardware queues of the device; nbd: connections to the kernel." },
	{ .name = "queue_depth",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = DEPTH_MAX,
	  .fallback = "`128`",
	  .doc = "Requests that one hardware queue holds." },
	{ 0 },
};

static const struct control_member map_results[] = {
	{ .name = "id", .kind = CONTROL_INTEGER, .doc = "The device's number at this daemon." },
	{ .name = "device", .kind = CONTROL_PATH, .doc = "The block device: `/dev/ublkb0`." },
	{ .name = "frontend",
	  .kind = CONTROL_CHOICE,
	  .choices = "ublk|nbd",
	  .doc = "The one that was taken." },
	{ .name = "existing",
	  .kind = CONTROL_BOOLEAN,
	  .doc = "Whether the image was mapped before, and that device is answered." },
	{ .name = "unmet",
	  .kind = CONTROL_ARRAY,
	  .doc = "Of an existing device: the params in which it is not as asked for (`queues`, "
		 "`queue_depth`, `io_timeout`, `client`, `options`)." },
	{ .name = "read_only", .kind = CONTROL_BOOLEAN, .doc = "Whether it refuses writes." },
	{ 0 },
};

static const struct control_member unmap_params[] = {
	{ .name = "device",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .doc = "The block device. Give either this or the image." },
	{ .name = "all",
	  .kind = CONTROL_BOOLEAN,
	  .doc = "Instead of a device or an image: every device." },
	{ .name = "type",
	  .kind = CONTROL_CHOICE,
	  .choices = "rbd|file",
	  .fallback = "`rbd`",
	  .doc = "The kind of image. A null image has no name: give its device." },
	{ .name = "force",
	  .kind = CONTROL_BOOLEAN,
	  .fallback = "`false`",
	  .doc = "Take the device away although it is in use. Its requests end with EIO." },
	{ .name = "timeout",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = TIMEOUT_MAX,
	  .fallback = "`30`",
	  .doc = "Seconds that the whole operation may take." },
	{ 0 },
};

static const struct control_member unmap_results[] = {
	{ .name = "device", .kind = CONTROL_PATH, .doc = "The block device that is gone." },
	{ .name = "devices",
	  .kind = CONTROL_ARRAY,
	  .doc = "With `all`, instead: the paths of those that are gone." },
	{ .name = "orphans",
	  .kind = CONTROL_ARRAY,
	  .doc = "With `all`: the paths of devices that a dead server left in the kernel without a "
		 "record here. They may be another daemon's, and stay until they are named." },
	{ 0 },
};

static const struct control_member drain_params[] = {
	{ .name = "device",
	  .kind = CONTROL_PATH,
	  .required = true,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .doc = "The block device." },
	{ .name = "timeout",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = TIMEOUT_MAX,
	  .fallback = "`30`",
	  .doc = "Seconds that the whole operation may take." },
	{ 0 },
};

static const struct control_member drain_results[] = {
	{ .name = "device", .kind = CONTROL_PATH, .doc = "The block device." },
	{ 0 },
};

static const struct control_member set_params[] = {
	{ .name = "device",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .doc = "The block device. Give one of this, `export` and the image." },
	{ .name = "export",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = TEXT_MAX_BYTES,
	  .doc = "The export's name or NBD URI. An image is meant as the device that it is, or "
		 "else as the export." },
	{ .name = "type",
	  .kind = CONTROL_CHOICE,
	  .choices = "rbd|file",
	  .fallback = "`rbd`",
	  .doc = "The kind of image. Only rbd images have settings." },
	{ .name = "settings",
	  .kind = CONTROL_OPTIONS,
	  .required = true,
	  .max = OPTIONS_MAX,
	  .doc = "rbd: options of librbd that this device or export has for itself, by name: "
		 "`rbd_qos_...`, the limits on its I/O. An empty value takes one away; those of "
		 "the client hold then." },
	{ .name = "timeout",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = TIMEOUT_MAX,
	  .fallback = "`30`",
	  .doc = "Seconds that the whole operation may take." },
	{ 0 },
};

static const struct control_member set_results[] = {
	{ .name = "device", .kind = CONTROL_PATH, .doc = "The block device; or" },
	{ .name = "export", .kind = CONTROL_STRING, .doc = "the export." },
	{ .name = "settings", .kind = CONTROL_OBJECT, .doc = "All that it has now." },
	{ 0 },
};

static const struct control_member list_results[] = {
	{ .name = "devices",
	  .kind = CONTROL_ARRAY,
	  .doc = "An object a device: `id`, `type`, `pool`, `namespace`, `image` (file: the path), "
		 "`snapshot`, `device`, `frontend`, `state` (`quiesced`, `mapping`, `live`, "
		 "`blocked`, `resizing`, "
		 "`stopping`, `failed`), `stalled` (live, but its storage has answered nothing "
		 "for ten seconds), `read_only`." },
	{ .name = "exports",
	  .kind = CONTROL_ARRAY,
	  .doc = "An object an export: `name`, `uri`, `listen`, `type`, `pool`, `namespace`, "
		 "`image` (file: the path), `snapshot`, `state` (`opening`, `live`, `changing`, "
		 "`blocked`, "
		 "`stopping`, `failed`), `reason` (why it failed, or why its I/O waits), "
		 "`quiesce_hook`, `read_only`, "
		 "`tls`, `clients` (connections), and `settings` where `set` gave it any." },
	{ 0 },
};

static const struct control_member export_params[] = {
	{ .name = "listen",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = LISTEN_MAX_BYTES,
	  .fallback = "where the daemon listens from its start",
	  .doc = "The address to serve at: `unix:PATH` (absolute; root alone may connect), "
		 "`HOST:PORT` or `[ADDRESS]:PORT`. Several exports may share one." },
	{ .name = "name",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = TEXT_MAX_BYTES,
	  .fallback = "the image as `urbd` writes it: `rbd/foo`",
	  .doc = "The name by which clients choose the export." },
	{ .name = "tls_certificates",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .doc = "Clients must use TLS and show a certificate: the folder with ca-cert.pem, "
		 "server-cert.pem and server-key.pem (and ca-crl.pem)." },
	{ .name = "tls_keys",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .doc = "Clients must use TLS and have a pre-shared key: the file with the keys, as "
		 "psktool writes it." },
	{ .name = "max_connections",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = CONNECTIONS_MAX,
	  .fallback = "that of urbdd, `128`",
	  .doc = "Connections that the address serves at once." },
	{ 0 },
};

static const struct control_member export_results[] = {
	{ .name = "name", .kind = CONTROL_STRING, .doc = "The export's name." },
	{ .name = "uri", .kind = CONTROL_STRING, .doc = "The NBD URI for clients." },
	{ .name = "existing",
	  .kind = CONTROL_BOOLEAN,
	  .doc = "Whether it was exported so before." },
	{ .name = "read_only", .kind = CONTROL_BOOLEAN, .doc = "Whether it refuses writes." },
	{ 0 },
};

static const struct control_member unexport_params[] = {
	{ .name = "name",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = TEXT_MAX_BYTES,
	  .doc = "The export's name or NBD URI (escaped or not). With an image as well: what has "
		 "the name or is of the image." },
	{ .name = "force",
	  .kind = CONTROL_BOOLEAN,
	  .fallback = "`false`",
	  .doc = "Cut clients off at once, without an answer to what is in flight; and do not wait "
		 "for a storage that does not answer, whose image is closed when it does." },
	{ .name = "timeout",
	  .kind = CONTROL_INTEGER,
	  .min = 1,
	  .max = TIMEOUT_MAX,
	  .fallback = "`30`",
	  .doc = "Seconds that requests in flight may take; what is left is cut off then. With "
		 "`force`: how long to wait until the storage has answered them." },
	{ 0 },
};

static const struct control_member unexport_results[] = {
	{ .name = "name", .kind = CONTROL_STRING, .doc = "The export that is gone." },
	{ 0 },
};

static const struct control_member status_params[] = {
	{ .name = "device",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .fallback = "all of them",
	  .doc = "The block device to tell about." },
	{ 0 },
};

static const struct control_member status_results[] = {
	{ .name = "version", .kind = CONTROL_STRING, .doc = "The daemon's version." },
	{ .name = "pid", .kind = CONTROL_INTEGER, .doc = "The daemon's process." },
	{ .name = "frontends",
	  .kind = CONTROL_OBJECT,
	  .doc = "`ublk` and `nbd`, each with `available` and, where it is not, `reason`." },
	{ .name = "queues", .kind = CONTROL_INTEGER, .doc = "Queue threads." },
	{ .name = "orphans",
	  .kind = CONTROL_ARRAY,
	  .doc = "Paths of devices that a dead urbdd left in the kernel without a record. Nobody "
		 "serves them; `unmap` with `force` removes them." },
	{ .name = "devices",
	  .kind = CONTROL_ARRAY,
	  .doc = "An object a device, with the members that `list` gives and `size` (bytes of the "
		 "device), `image_size` (bytes of the image, which differ after a resize that the "
		 "kernel cannot follow), "
		 "`block_size` and `optimal_io` (bytes), `queues`, `queue_depth`, `features`, "
		 "`in_flight` (requests), `mapped_at` (seconds since 1970), `identity`, and of an "
		 "rbd image `cluster` (fsid), `user`, `client` (its address, while there is one), "
		 "`quiesce_hook`, and as it was mapped `lock`, `sharing` (the param `client`), "
		 "`io_timeout` (0: none), `options` and `settings` (where `set` gave it any); "
		 "`reason` says why a device waits or has "
		 "failed." },
	{ .name = "exports",
	  .kind = CONTROL_ARRAY,
	  .doc = "Without `device`: the exports, as `list` gives them." },
	{ 0 },
};

static const struct control_member stat_params[] = {
	{ .name = "device",
	  .kind = CONTROL_PATH,
	  .min = 1,
	  .max = PATH_MAX_BYTES,
	  .fallback = "all of them, and all exports",
	  .doc = "The block device to tell about." },
	{ .name = "export",
	  .kind = CONTROL_STRING,
	  .min = 1,
	  .max = TEXT_MAX_BYTES,
	  .doc = "In place of a device, the name or URI of the export to tell about. With an image "
		 "as well: what has the name or is of the image." },
	{ 0 },
};

static const struct control_member stat_results[] = {
	{ .name = "rows",
	  .kind = CONTROL_ARRAY,
	  .doc = "An object a device or export that is open: `device`, or `export` and `uri`; "
		 "`type`, `pool`, `namespace`, `image`, `snapshot`; `in_flight` (requests); "
		 "`age_ns` (how long it has been counting), `since_ns` (and from when, by "
		 "CLOCK_MONOTONIC: another one has begun anew); `ops`, by the kind of request "
		 "(`read`, `write`, `flush`, `discard`, `write-zeroes`, `extents`) of which there "
		 "were any: `requests`, `errors`, `bytes`, `buckets` of the latency (pairs of "
		 "bound in ns and requests below it that are in no bucket before), and `latency` "
		 "with its parts `frontend`, `queue` and `storage`, each with `total_ns`, "
		 "`p50_ns`, `p99_ns`, `p999_ns`. Counts and totals only grow." },
	{ 0 },
};

static const struct control_member version_results[] = {
	{ .name = "version", .kind = CONTROL_STRING, .doc = "The daemon's version." },
	{ 0 },
};

const struct control_method control_methods[] = {
	{ .name = "map",
	  .doc = "Makes an image a block device. An image that is mapped already keeps its device "
		 "as it is, and that is answered; it is refused where `read_only`, `lock` or "
		 "`frontend` ask for another one.",
	  .params = { image_names, image_kind, open_params, map_params },
	  .results = { map_results },
	  .errors = "ENOENT (no such pool, image, snapshot, file), EACCES (key or permission), "
		    "ETIMEDOUT (the cluster does not answer), EROFS, EINVAL, EBUSY (somebody else "
		    "uses the image; or it is mapped in another way), EOPNOTSUPP (no frontend; "
		    "`exclusive` without the feature)",
	  .check = control_check_map },
	{ .name = "unmap",
	  .doc = "Takes a device away.",
	  .params = { image_names, unmap_params },
	  .results = { unmap_results },
	  .errors = "ENXIO (not mapped; nothing else gives it), EBUSY (in use; `force` overrides), "
		    "ETIMEDOUT",
	  .check = control_check_unmap },
	{ .name = "drain",
	  .doc = "Finishes what is in flight, closes the image and holds the device's I/O.",
	  .params = { drain_params },
	  .results = { drain_results },
	  .errors = "ENXIO (not mapped; nothing else gives it), EBUSY (it waits for its storage), "
		    "ETIMEDOUT (what is in flight is not answered, and the device goes on; or the "
		    "image is not closed yet, and the device is held until resume), ECANCELED (an "
		    "unmap by force takes it away)" },
	{ .name = "resume",
	  .doc = "Opens the image of a drained device again; its I/O goes on.",
	  .params = { drain_params },
	  .results = { drain_results },
	  .errors = "those of `map`, ESTALE (the image is gone), ENXIO (not mapped; nothing else "
		    "gives it)" },
	{ .name = "export",
	  .doc = "Serves an image to NBD clients. What is exported so already is answered.",
	  .params = { image_names, image_kind, open_params, export_params },
	  .results = { export_results },
	  .errors = "those of `map`, EEXIST (the name is in use), EADDRINUSE, EBUSY (the address "
		    "has other settings)",
	  .check = control_check_export },
	{ .name = "unexport",
	  .doc = "Takes an export away, and ends its clients' connections.",
	  .params = { image_names, image_kind, unexport_params },
	  .results = { unexport_results },
	  .errors = "ENXIO (not exported; nothing else gives it), ENOTUNIQ (several bear the "
		    "name), ETIMEDOUT (the "
		    "storage still holds requests)",
	  .check = control_check_unexport },
	{ .name = "set",
	  .doc = "Changes settings of a device or an export while it is in use. Its I/O waits for "
		 "some milliseconds.",
	  .params = { image_names, set_params },
	  .results = { set_results },
	  .errors = "ENXIO (neither mapped nor exported), EINVAL (no such option, or not that "
		    "value), EEXIST (the image's or its pool's metadata goes before), EOPNOTSUPP "
		    "(no rbd image), ETIMEDOUT (what is in flight is not answered; nothing is "
		    "changed), EBUSY, ENOTUNIQ, and those of `map`",
	  .check = control_check_set },
	{ .name = "list", .doc = "The devices and exports.", .results = { list_results } },
	{ .name = "status",
	  .doc = "The daemon and its devices in detail.",
	  .params = { status_params },
	  .results = { status_results },
	  .errors = "ENXIO (not mapped; nothing else gives it)" },
	{ .name = "stat",
	  .doc = "What devices and exports have served since they are there, and how long it took: "
		 "all of them, or a device, an export, or what there is of an image (what is "
		 "required below is so where an image is named).",
	  .params = { image_names, image_kind, stat_params },
	  .results = { stat_results },
	  .errors = "ENXIO (not mapped or exported; nothing else gives it)",
	  .check = control_check_stat },
	{ .name = "version", .doc = "The daemon's version.", .results = { version_results } },
	{ 0 },
};

const struct control_method *control_method_find(const char *name)
{
	for (const struct control_method *method = control_methods; method->name; method++)
		if (strcmp(method->name, name) == 0)
			return method;
	return NULL;
}

const struct control_member *control_param_of(const struct control_method *method, const char *name)
{
	for (unsigned i = 0; i < CONTROL_GROUPS_MAX && method->params[i]; i++)
		for (const struct control_member *member = method->params[i]; member->name;
		     member++)
			if (strcmp(member->name, name) == 0)
				return member;
	return NULL;
}

const struct control_member *control_param_find(const char *method, const char *name)
{
	const struct control_method *found = control_method_find(method);

	return found ? control_param_of(found, name) : NULL;
}
