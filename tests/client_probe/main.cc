// SPDX-License-Identifier: Apache-2.0
//
// client_probe: links of one or more ranks to a server, for tests from outside. Prints what each link tells
// its listener as JSON lines on standard output; takes commands, one a line, on standard input:
//
//   step N                         the training step of all ranks
//   measure GENERATION STEP TIME_S a report of one iteration from every rank
//   guard GENERATION PROMISED MEASURED
//   window GENERATION WINDOW STEP  a report of one window of a sweep
//   gpu UUID MHZ,MHZ,...           what is known of the first rank's GPU
//   gpus MHZ,MHZ,...               of every rank's: names of their own, clocks may be set
//   loop                           starts training: steps of 2 ms with a report every hundred; see `state`
//   state                          counters, and how the training goes
//   fork                           a child that uses and destroys the links; prints how it ended
//   stop PATIENCE_MS               stops all links
//   quit                           ends without stopping
//
// With --ranks N there are N links, of the first N ranks of the job; each line says which rank it is of.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "perseus/client/server_link.h"
#include "perseus/format/json_text.h"
#include "perseus/schedule/generate.h"

namespace {

using namespace perseus;  // NOLINT(google-build-using-namespace): a program of one file
using client::ServerLink;
using format::JsonText;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// One line, whole, at once.
void print(JsonText& line) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const std::string text = line.end_object().take() + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

JsonText event(std::string_view what, const std::string& rank) {
  JsonText out;
  out.begin_object().key("event").text(what).key("rank").text(rank);
  return out;
}

/// Prints what it hears.
class Listener final : public client::ControlListener {
 public:
  Listener(std::string rank, bool contacts) : rank_(std::move(rank)), contacts_(contacts) {}

  void on_plan(std::shared_ptr<const client::RankPlan> plan) override {
    JsonText out = event("plan", rank_);
    out.key("revision").number(plan->revision).key("generation").number(plan->generation);
    out.key("reason").text(plan->reason).key("from_step").number(plan->from_step);
    out.key("baseline").boolean(plan->baseline).key("ttl_s").number(plan->ttl.value());
    const std::optional<core::Seconds> promised = plan->promised_time;
    out.key("promised_time_s");
    if (promised) {
      out.number(promised->value());
    } else {
      out.null();
    }
    out.key("operations").number(plan->operations.size()).key("windows").number(plan->windows.size());
    out.key("clocks_mhz").begin_array();
    for (const auto& operation : plan->operations)
      out.number(operation.clock ? operation.clock->value() : 0U);
    out.end_array();
    print(out);
  }
  void on_contact() override {
    contact_count_.fetch_add(1);
    if (!contacts_) return;
    JsonText out = event("contact", rank_);
    print(out);
  }
  void on_refused(const core::Error& why) override {
    JsonText out = event("refused", rank_);
    out.key("why").text(why.message());
    print(out);
  }
  [[nodiscard]] std::uint64_t contacts() const { return contact_count_.load(); }

 private:
  std::string rank_;
  bool contacts_;
  std::atomic<std::uint64_t> contact_count_{0};
};

struct Rank {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<ServerLink> link;
};

/// A training loop of all ranks: what the link costs it, and that it goes on.
class Training {
 public:
  explicit Training(std::vector<Rank>& ranks) : ranks_(ranks) {}
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;
  ~Training() { end(); }

  void begin() {
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  void end() {
    ended_ = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] std::uint64_t steps() const { return steps_.load(); }
  [[nodiscard]] double slowest_call_ms() const { return slowest_call_ms_.load(); }
  /// Steps in which the links' functions took longer than 100 ms.
  [[nodiscard]] std::uint64_t delayed() const { return delayed_.load(); }

 private:
  void run() {
    while (!ended_) {
      const std::uint64_t step = steps_.fetch_add(1);
      const auto begun = Clock::now();
      for (Rank& rank : ranks_) {
        rank.link->at_step(step);
        if (step % 100 == 99) {
          rank.link->report(
              client::StepReport{.step = step, .iterations = 100, .iteration_time = core::Seconds(0.002)});
        }
      }
      const std::chrono::duration<double, std::milli> took = Clock::now() - begun;
      slowest_call_ms_ = std::max(slowest_call_ms_.load(), took.count());
      if (took > milliseconds(100)) delayed_.fetch_add(1);
      std::this_thread::sleep_for(milliseconds(2));
    }
  }

  std::vector<Rank>& ranks_;
  std::atomic<bool> ended_{false};
  std::atomic<std::uint64_t> steps_{0};
  std::atomic<double> slowest_call_ms_{0};
  std::atomic<std::uint64_t> delayed_{0};
  std::thread thread_;
};

/// The links are used in a child that was forked while their threads ran; it must end by itself.
std::string use_in_child(std::vector<Rank>& ranks) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    for (Rank& rank : ranks) {
      rank.link->at_step(1);
      rank.link->report(client::StepReport{});
      rank.link->set_gpu({});
      rank.link->stop(milliseconds(1000));
      rank.link.reset();
    }
    // What a child must not have: sockets of the parent's.
    int sockets = 0;
    for (int fd = 3; fd < 256; ++fd) {
      int type = 0;
      socklen_t size = sizeof type;
      if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM) ++sockets;
    }
    std::_Exit(sockets);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status)) return fmt::format("signal {}", WTERMSIG(status));
  return fmt::format("{} sockets", WEXITSTATUS(status));
}

struct Flags {
  client::ServerLinkOptions options;
  std::string rank = "0.0.0", schedule = "1f1b";
  std::uint32_t pipeline = 2, microbatches = 4, ranks = 1, virtual_stages = 0;
  double blocking_power_w = 85;
  bool orders = false, contacts = false, online = false;
};

void add_times(CLI::App& app, client::LinkTimes& times) {
  const auto add = [&app](const char* flag, milliseconds& to) {
    app.add_option_function<int>(flag, [&to](int ms) { to = milliseconds(ms); });
  };
  add("--connect-ms", times.connect);
  add("--answer-ms", times.answer);
  add("--grace-ms", times.poll_grace);
  add("--first-retry-ms", times.first_retry);
  add("--most-retry-ms", times.most_retry);
  add("--refused-retry-ms", times.refused_retry);
  add("--quiet-ms", times.quiet);
  app.add_option_function<int>("--poll-wait-s",
                               [&times](int s) { times.poll_wait = std::chrono::seconds(s); });
}

Flags parse(int argc, char** argv) {
  Flags flags;
  CLI::App app("links of ranks to a server, for tests");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  client::ServerLinkOptions& o = flags.options;
  o.server = client::server_from_environment();
  app.add_option("--server", o.server.url);
  app.add_option("--token-file", o.server.token_file);
  app.add_option("--ca-file", o.server.ca_file);
  app.add_option("--job", o.job.name)->default_val("gpt");
  app.add_option("--incarnation", o.job.incarnation);
  app.add_option("--rank", flags.rank);
  app.add_option("--ranks", flags.ranks);
  app.add_option("--pp", flags.pipeline);
  app.add_option("--dp", o.job.data);
  app.add_option("--tp", o.job.tensor);
  app.add_option("--schedule", flags.schedule);
  app.add_option("--microbatches", flags.microbatches);
  app.add_option("--virtual-stages", flags.virtual_stages);
  app.add_option("--blocking-power", flags.blocking_power_w);
  app.add_flag("--orders", flags.orders);
  app.add_flag("--online", flags.online);
  app.add_flag("--contacts", flags.contacts);
  add_times(app, o.times);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));  // NOLINT(concurrency-mt-unsafe): nothing runs yet
  }
  return flags;
}

/// The links, or the reason why there are none.
core::Result<std::vector<Rank>> make_ranks(const Flags& flags) {
  client::ServerLinkOptions options = flags.options;
  const schedule::Request request{.name = flags.schedule,
                                  .pipeline = flags.pipeline,
                                  .microbatches = flags.microbatches,
                                  .virtual_stages = flags.virtual_stages};
  PERSEUS_ASSIGN_OR_RETURN(options.job.schedule, schedule::generate(request));
  if (!flags.orders) options.job.named = request;
  if (flags.blocking_power_w >= 0) options.job.blocking_power = {core::Watts(flags.blocking_power_w)};
  if (flags.online) options.job.profiling = client::ProfilingSettings{.online = true};
  client::RankPlace place;
  if (std::sscanf(flags.rank.c_str(), "%u.%u.%u", &place.dp, &place.pp, &place.tp) != 3) {
    return core::fail(core::ErrorCode::kUsage, "--rank is not DP.PP.TP");
  }
  std::vector<Rank> ranks;
  ranks.reserve(flags.ranks);
  for (std::uint32_t i = 0; i < flags.ranks; ++i) {
    options.place = place;
    const std::string name = fmt::format("{}.{}.{}", place.dp, place.pp, place.tp);
    options.log = [name](bool warning, std::string_view line) {
      JsonText out = event("log", name);
      out.key("warning").boolean(warning).key("line").text(line);
      print(out);
    };
    PERSEUS_ASSIGN_OR_RETURN(auto link, client::make_server_link(options));
    Rank& rank = ranks.emplace_back();
    rank.listener = std::make_unique<Listener>(name, flags.contacts);
    rank.link = std::move(link);
    if (++place.tp < options.job.tensor) continue;
    place.tp = 0;
    if (++place.pp < flags.pipeline) continue;
    place.pp = 0;
    ++place.dp;
  }
  return ranks;
}

void print_state(const std::vector<Rank>& ranks, const Training& training) {
  client::ControlLink::Counters sum;
  std::uint64_t contacts = 0;
  for (const Rank& rank : ranks) {
    const auto counters = rank.link->counters();
    sum.dropped_reports += counters.dropped_reports;
    sum.refused_answers += counters.refused_answers;
    sum.failures += counters.failures;
    contacts += rank.listener->contacts();
  }
  JsonText out = event("state", "all");
  out.key("dropped_reports").number(sum.dropped_reports).key("refused_answers").number(sum.refused_answers);
  out.key("failures").number(sum.failures).key("contacts").number(contacts);
  out.key("steps").number(training.steps()).key("slowest_call_ms").number(training.slowest_call_ms());
  out.key("delayed_steps").number(training.delayed());
  print(out);
}

client::GpuFacts gpu_of(std::istringstream& words) {
  client::GpuFacts facts;
  std::string clocks;
  words >> facts.uuid >> clocks;
  std::istringstream list(clocks);
  for (std::string clock; std::getline(list, clock, ',');) {
    facts.clocks.emplace_back(static_cast<std::uint32_t>(std::stoul(clock)));
  }
  return facts;
}

client::RankReport report_of(const std::string& kind, std::istringstream& words) {
  if (kind == "guard") {
    client::GuardTripReport report{.iterations = 5};
    double promised = 0;
    double measured = 0;
    words >> report.generation >> promised >> measured;
    report.promised = core::Seconds(promised);
    report.measured = core::Seconds(measured);
    return report;
  }
  if (kind == "window") {
    client::WindowReport report{.iterations = 3, .iteration_time = core::Seconds(0.1)};
    words >> report.generation >> report.window >> report.step;
    report.kinds = {{core::Kind::kForward,
                     0,
                     core::Megahertz(1410),
                     12,
                     1,
                     core::Seconds(0.02),
                     core::Seconds(0.0001),
                     {}}};
    report.energy = client::EnergySums{.intervals = 3,
                                       .seconds = core::Seconds(0.3),
                                       .joules = core::Joules(90),
                                       .columns = {"F0@1410", "idle"},
                                       .xtx = {0.02, 0.01, 0.02},
                                       .xty = {5, 4},
                                       .yty = 2700};
    report.counter_period = core::Seconds(0.1);
    return report;
  }
  client::StepReport report{.iterations = 1};
  double time = 0;
  words >> report.generation >> report.step >> time;
  report.iteration_time = core::Seconds(time);
  return report;
}

/// False after `quit`.
bool obey(const std::string& line, std::vector<Rank>& ranks, Training& training) {
  std::istringstream words(line);
  std::string command;
  words >> command;
  if (command == "step") {
    std::uint64_t step = 0;
    words >> step;
    for (Rank& rank : ranks) rank.link->at_step(step);
  } else if (command == "measure" || command == "guard" || command == "window") {
    const client::RankReport report = report_of(command, words);
    for (Rank& rank : ranks) rank.link->report(report);
  } else if (command == "gpu") {
    ranks.front().link->set_gpu(gpu_of(words));
  } else if (command == "gpus") {
    std::size_t number = 0;
    for (Rank& rank : ranks) {
      std::istringstream facts(fmt::format("GPU-{} {}", number++, line.substr(line.find(' ') + 1)));
      client::GpuFacts gpu = gpu_of(facts);
      gpu.clock_control = true;
      gpu.counter_period = core::Seconds(0.1);
      rank.link->set_gpu(std::move(gpu));
    }
  } else if (command == "loop") {
    training.begin();
  } else if (command == "state") {
    print_state(ranks, training);
  } else if (command == "fork") {
    JsonText out = event("forked", "all");
    out.key("child").text(use_in_child(ranks));
    print(out);
  } else if (command == "stop") {
    int patience_ms = 0;
    words >> patience_ms;
    training.end();
    for (Rank& rank : ranks) rank.link->stop(milliseconds(patience_ms));
    JsonText out = event("stopped", "all");
    print(out);
  } else {
    return command != "quit";
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const Flags flags = parse(argc, argv);
  auto ranks = make_ranks(flags);
  if (!ranks) {
    fmt::print(stderr, "{}\n", ranks.error().text());
    return core::info(ranks.error().code()).exit_code;
  }
  Training training(*ranks);
  for (Rank& rank : *ranks) rank.link->start(*rank.listener);
  for (std::string line; std::getline(std::cin, line);) {
    if (!obey(line, *ranks, training)) std::_Exit(0);
  }
  return 0;
}
