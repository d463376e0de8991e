/* fuzz_report: job.json must be JSON, whatever the guest and its disk say. */
#ifndef TESTS_FUZZ_FUZZ_REPORT_H
#define TESTS_FUZZ_FUZZ_REPORT_H

#include "host-tools/report.h"
#include "tests/fuzz/fuzz.h"

static inline void fuzz_report(struct report *report)
{
	const char *problem = report->disk->problem;

	report_decide(report, *problem ? problem : NULL);
	char *text = report_json(report);
	FUZZ_CHECK(text);
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	FUZZ_CHECK(json_is_object(json));
	json_decref(json);
	free(text);
}

#endif
