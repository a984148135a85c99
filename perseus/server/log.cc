// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/log.h"

#include <fmt/format.h>

#include <chrono>

#include "perseus/format/text.h"
#include "perseus/server/json_text.h"

namespace perseus::server {

std::string utc_text(std::int64_t unix_ms) {
  using namespace std::chrono;  // NOLINT(google-build-using-namespace): calendar words
  const sys_time<milliseconds> moment{milliseconds(unix_ms)};
  const auto day = floor<days>(moment);
  const year_month_day date(day);
  const hh_mm_ss<milliseconds> time(moment - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     time.hours().count(), time.minutes().count(), time.seconds().count(),
                     time.subseconds().count());
}

void Log::write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  JsonText out;
  out.begin_object().key("time").text(
      utc_text(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()));
  out.key("level").text(level == Level::kInfo ? "info" : level == Level::kWarning ? "warning" : "error");
  out.key("event").text(event);
  for (const auto& [name, value] : fields) {
    out.key(name).text(format::find_bad_byte(value) ? std::string_view(format::quoted(value)) : value);
  }
  const std::string line = out.end_object().take();
  const std::scoped_lock lock(mutex_);
  sink_(line);
}

}  // namespace perseus::server
