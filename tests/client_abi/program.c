/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest training loop in plain C. */
#include <stdio.h>

#include "perseus/client/perseus.h"

int main(void) {
  perseus_options options = PERSEUS_OPTIONS_INIT;
  perseus_client* client = NULL;
  perseus_state state;
  char message[256];
  uint32_t step;
  uint32_t mb;

  if (perseus_open(&options, &client, message, sizeof(message)) != 0) {
    fprintf(stderr, "%s\n", message);
    return 1;
  }
  for (step = 0; step < 3; ++step) {
    perseus_begin_step(client);
    for (mb = 0; mb < 4; ++mb) {
      perseus_begin(client, PERSEUS_FORWARD, 0, mb);
      perseus_end(client, PERSEUS_FORWARD, 0, mb);
    }
    perseus_end_step(client);
  }
  state.size = sizeof(state);
  if (perseus_get_state(client, &state) != 0) return 1;
  printf("%lu steps, %lu computations, version %lu\n", (unsigned long)state.steps,
         (unsigned long)state.operations, (unsigned long)perseus_abi_version());
  perseus_close(client);
  return 0;
}
