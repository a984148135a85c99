// SPDX-License-Identifier: Apache-2.0
//
// A packet of the agent to a client: whatever is read is written and read again the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "perseus/wire/agent_messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = perseus::wire::parse_agent_reply({reinterpret_cast<const char*>(data), size});
  if (!parsed) return 0;
  const std::string text = perseus::wire::encode(*parsed);
  const auto again = perseus::wire::parse_agent_reply(text);
  if (!again || perseus::wire::encode(*again) != text) std::abort();
  return 0;
}
