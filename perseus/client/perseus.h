/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rank's side of Perseus, for any language: tells which computation begins and ends, so that the GPU gets
 * the clock that the plan asks for.
 *
 *   perseus_options options = PERSEUS_OPTIONS_INIT;
 *   options.job = "gpt3"; options.pp = 8; options.pp_rank = 3; options.dp = 2; options.dp_rank = 0;
 *   options.schedule = "1f1b"; options.microbatches = 128;
 *   perseus_client* client = NULL;
 *   perseus_open(&options, &client, NULL, 0);
 *   for (...) {
 *     perseus_begin_step(client);
 *     ... recv(); perseus_begin(client, PERSEUS_FORWARD, stage, mb); forward(); perseus_end(client,
 * PERSEUS_FORWARD, stage, mb); send(); ... perseus_end_step(client);
 *   }
 *   perseus_close(client);
 *
 * Training never waits for Perseus (law 1): the four hooks take no lock that slow work holds, make no system
 * call while a plan is active and immediate triggers are used, never fail and never raise a signal. No
 * server, no agent, a wrong plan, an unknown computation: baseline clocks, a counter, one log line.
 *
 * Threads: the hooks of one client belong to one thread at a time; perseus_get_state and perseus_close may be
 * called by any, perseus_close not at the same time as another call. After fork() the child's calls do
 * nothing. A NULL client is allowed everywhere and does nothing. Struct sizes and enum values only grow.
 */
#ifndef PERSEUS_CLIENT_PERSEUS_H
#define PERSEUS_CLIENT_PERSEUS_H

#include <stddef.h>
#include <stdint.h>

/* NOLINTBEGIN(readability-identifier-naming): names as C libraries have them */
#ifdef __cplusplus
extern "C" {
#endif

#define PERSEUS_ABI_VERSION 1

#if defined(__GNUC__)
#define PERSEUS_EXPORT __attribute__((visibility("default")))
#else
#define PERSEUS_EXPORT
#endif

typedef struct perseus_client perseus_client;

/** What a computation does; as the profile's instructions. */
typedef enum perseus_kind {
  PERSEUS_FORWARD = 0,
  PERSEUS_BACKWARD = 1,
  PERSEUS_BACKWARD_INPUT = 2,
  PERSEUS_BACKWARD_WEIGHT = 3,
  PERSEUS_FORWARD_BACKWARD = 4, /**< known by the stage and microbatch of its forward */
  PERSEUS_RECOMPUTE = 5
} perseus_kind;

/** Called for each log line (one sentence, no newline), on a thread of Perseus; must not call Perseus. */
typedef void (*perseus_log_function)(void* user, int is_warning, const char* line);

/** Texts may be freed when perseus_open returns. */
typedef struct perseus_options {
  size_t size;          /**< sizeof(perseus_options); PERSEUS_OPTIONS_INIT sets it */
  const char* job;      /**< NULL: $PERSEUS_JOB_ID */
  uint64_t incarnation; /**< 0: $PERSEUS_INCARNATION, else $TORCHELASTIC_RESTART_COUNT or $SLURM_RESTART_COUNT
                           + 1, else 1 */
  uint32_t dp, pp, tp;  /**< degrees; 0 means 1 */
  uint32_t dp_rank, pp_rank, tp_rank;
  const char* schedule; /**< name of a schedule ("1f1b"); NULL: orders */
  uint32_t microbatches;
  uint32_t virtual_stages; /**< 0 means 1 */
  uint32_t group_size;     /**< of interleaved-1f1b; 0: the schedule's own */
  const char* const*
      orders; /**< instead of a name: pp texts, cells of a rank separated by commas ("0F0,0B0") */
  double blocking_power_w;  /**< of one waiting GPU; negative: the server measures it */
  const char* gpu;          /**< UUID, or an index of the backend; NULL: $LOCAL_RANK, else 0 */
  const char* server;       /**< URL; NULL: $PERSEUS_SERVER; "" or none: no server, telemetry only */
  const char* backend;      /**< "agent", "direct" or "log:FILE"; NULL: $PERSEUS_BACKEND, else "agent" */
  const char* agent_socket; /**< NULL: $PERSEUS_AGENT_SOCKET, else /run/perseus/agent.sock */
  const char* trigger; /**< "host", "stream_write" or "event_poll"; NULL: $PERSEUS_TRIGGER, else host without
                          a stream and the best that the driver has with one */
  void* stream;        /**< CUstream that computations are queued on; NULL: host time */
  const char*
      fingerprint; /**< of model and machine: a stored profile with the same one is used again; NULL: none */
  perseus_log_function log; /**< NULL: standard error */
  void* log_user;
} perseus_options;

#define PERSEUS_OPTIONS_INIT \
  {sizeof(perseus_options),  \
   NULL,                     \
   0,                        \
   1,                        \
   1,                        \
   1,                        \
   0,                        \
   0,                        \
   0,                        \
   NULL,                     \
   0,                        \
   1,                        \
   0,                        \
   NULL,                     \
   -1.0,                     \
   NULL,                     \
   NULL,                     \
   NULL,                     \
   NULL,                     \
   NULL,                     \
   NULL,                     \
   NULL,                     \
   NULL,                     \
   NULL}

/**
 * Opens a client. 0, or an error number (docs/errors.md; the text goes to `message`, cut to `message_size`
 * bytes with its terminator) for options that make no sense: then *client is NULL and all calls with it do
 * nothing. A server or agent that cannot be reached is no error. Takes at most 2 s, and not that where agent
 * and server answer.
 */
PERSEUS_EXPORT int perseus_open(const perseus_options* options, perseus_client** client, char* message,
                                size_t message_size);

/** A training step begins: the next number, counted from 0; all ranks of an incarnation count alike. */
PERSEUS_EXPORT void perseus_begin_step(perseus_client* client);
/** The same with a number of the caller's, which must rise. */
PERSEUS_EXPORT void perseus_begin_step_at(perseus_client* client, uint64_t step);
/** The step has ended; outside of steps the clock is the baseline (evaluation, checkpoints). */
PERSEUS_EXPORT void perseus_end_step(perseus_client* client);

/** A computation begins: after its input has arrived, before its work is queued. */
PERSEUS_EXPORT void perseus_begin(perseus_client* client, perseus_kind kind, uint32_t stage,
                                  uint32_t microbatch);
/** It has ended (host), or its work has been queued (stream). */
PERSEUS_EXPORT void perseus_end(perseus_client* client, perseus_kind kind, uint32_t stage,
                                uint32_t microbatch);

/** Changes the stream that the next computations are queued on. */
PERSEUS_EXPORT void perseus_set_stream(perseus_client* client, void* stream);

/** A picture of the client. */
typedef struct perseus_state {
  size_t size; /**< set by the caller to sizeof(perseus_state) */
  uint64_t step;
  uint64_t generation;                        /**< that is run; 0: baseline clocks */
  uint32_t clock_mhz;                         /**< that was asked for last; 0: baseline */
  uint32_t server_connected, clock_connected; /**< 0 or 1 */
  uint64_t steps, operations;
  uint64_t unknown_operations, missing_operations; /**< against the plan that was run */
  uint64_t posts;                                  /**< clock changes asked for */
  uint64_t guard_trips, plans_taken, plans_expired, hook_timeouts;
  uint64_t dropped_reports, refused_answers, link_failures;
  double promised_time_s, iteration_time_s; /**< 0: none; of the last whole step */
  uint64_t reordered_operations;            /**< that came after others that the plan has behind them */
  uint64_t lost_records;                    /**< measurements that came too fast */
} perseus_state;
/** 0, or an error number. */
PERSEUS_EXPORT int perseus_get_state(perseus_client* client, perseus_state* state);

/** Baseline clocks, goodbye to server and agent, frees the client. Takes 2 s at most; 5 s while a guardian of
 * direct mode is starting. */
PERSEUS_EXPORT void perseus_close(perseus_client* client);

/** PERSEUS_ABI_VERSION of the library that was loaded. */
PERSEUS_EXPORT uint32_t perseus_abi_version(void);

#ifdef __cplusplus
}
#endif
/* NOLINTEND(readability-identifier-naming) */

#endif /* PERSEUS_CLIENT_PERSEUS_H */
