#include "host-tools/timeouts.h"

#include "host-tools/message.h"

/* An emulated guest boots in seconds; on a loaded host it may have to wait for its turn. */
#define BOOT_TIMEOUT_MS	     180000
#define HEARTBEAT_TIMEOUT_MS 60000

struct timeouts timeouts_default(void)
{
	return (struct timeouts){.boot_ms = BOOT_TIMEOUT_MS, .heartbeat_ms = HEARTBEAT_TIMEOUT_MS};
}

static uint64_t check(const struct command *command, const char *option, const char *given,
		      uint64_t default_ms)
{
	struct error error;
	uint64_t milliseconds;

	if (!given)
		return default_ms;
	if (parse_duration_ms(given, &milliseconds, &error))
		message_usage(command->name, "option '%s': %s", option, error.text);
	return milliseconds;
}

void timeouts_check(const struct command *command, struct timeouts *timeouts)
{
	timeouts->boot_ms = check(command, "--boot-timeout", timeouts->boot, BOOT_TIMEOUT_MS);
	timeouts->heartbeat_ms =
		check(command, "--heartbeat-timeout", timeouts->heartbeat, HEARTBEAT_TIMEOUT_MS);
}
