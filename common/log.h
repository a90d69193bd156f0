/*
 * The programs' log: one line a message on stderr. Under systemd (JOURNAL_STREAM names our stderr)
 * each line bears the journal's "<N>" priority prefix instead of a word. Any thread may log; the
 * data path and library code do not.
 */
#pragma once

#include <stdbool.h>

#include "common/macros.h"

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* Sets the most talkative level that is written. Call before threads start. */
void log_open(const char *program, enum log_level level);

void log_message(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...)	 log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)
