// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/report.h"

#include <gmock/gmock.h>
#include <openssl/evp.h>

#include <array>
#include <boost/json.hpp>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/report/json_out.h"
#include "perseus/report/page_data.h"
#include "perseus/report/page_files.h"
#include "perseus/report/testing.h"
#include "perseus/report/timing.h"

// Boost.JSON 1.81 rounds some doubles in the last place when it reads them: numbers are compared within 4 ulp
// here, and exactly in json_out_test.cc.
namespace perseus::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::must;
using ::testing::Not;
using testing::sample_inputs;
using ::testing::StartsWith;

std::string_view between(std::string_view text, std::string_view open, std::string_view close) {
  const std::size_t begin = text.find(open) + open.size();
  return text.substr(begin, text.find(close, begin) - begin);
}

boost::json::value data_of(const std::string& html) {
  return boost::json::parse(between(html, "id=\"report-data\">", "</script>"));
}

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

/// Numbers of a packed array of the page's data.
std::vector<std::uint32_t> unpacked(const boost::json::value& packed) {
  const std::string text(packed.at("data").as_string());
  std::vector<std::uint8_t> bytes(text.size() / 4 * 3 + 1);
  EVP_DecodeBlock(bytes.data(), reinterpret_cast<const unsigned char*>(text.data()),
                  static_cast<int>(text.size()));
  std::size_t size = text.size() / 4 * 3;
  for (std::size_t k = 1; k <= 2 && k <= text.size(); ++k) size -= text[text.size() - k] == '=' ? 1U : 0U;
  const auto width = packed.at("bytes").to_number<std::size_t>();
  std::vector<std::uint32_t> values;
  for (std::size_t i = 0; i + width <= size; i += width) {
    std::uint32_t value = 0;
    for (std::size_t k = 0; k < width; ++k) value |= static_cast<std::uint32_t>(bytes[i + k]) << 8 * k;
    values.push_back(value);
  }
  return values;
}

TEST(WriteHtml, IsOneFileThatNamesNoOther) {
  const std::string html = must(write_html(sample_inputs()));
  EXPECT_TRUE(html.starts_with("<!doctype html>"));
  EXPECT_EQ(count(html, "<script"), 2U);
  for (const char* text : {" src=", "@import", "url(", "<link", "{{policy}}", "{{title}}", "{{style}}",
                           "{{script}}", "{{data}}"}) {
    EXPECT_EQ(count(html, text), 0U) << text;
  }
}

TEST(WriteHtml, PolicyAllowsExactlyTheInlineTexts) {
  const std::string html = must(write_html(sample_inputs()));
  const auto hash = [](std::string_view text) {
    std::array<std::uint8_t, 32> digest{};
    EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
    return "'sha256-" + base64(digest) + "'";
  };
  const std::string_view policy = between(html, "Content-Security-Policy\" content=\"", "\"");
  EXPECT_EQ(policy, "default-src 'none'; script-src " + hash(between(html, "<script>", "</script>")) +
                        "; style-src " + hash(between(html, "<style>", "</style>")) +
                        "; base-uri 'none'; form-action 'none'");
}

TEST(WriteHtml, TextsCannotBecomeMarkup) {
  ReportInputs inputs = sample_inputs();
  const std::string hostile = "</title></script><script>alert(1)</script>\"'&\u2028{{data}}\xff";
  inputs.title = inputs.profile_name = inputs.provenance = hostile;
  inputs.baselines[0].name = hostile;
  inputs.facts.push_back({hostile, hostile});
  inputs.warnings.push_back({hostile, {}});
  const std::string html = must(write_html(inputs));
  EXPECT_EQ(count(html, "<script"), 2U);
  EXPECT_EQ(count(html, "</script"), 2U);
  EXPECT_EQ(count(html, "</title>"), 1U);
  EXPECT_EQ(count(html, "<script>alert"), 0U);
  EXPECT_EQ(data_of(html).at("title").as_string(), valid_utf8(hostile));
}

TEST(WriteHtml, PageFilesCannotCloseTheirElements) {
  for (const PageFile& file : page_files()) {
    if (file.name.ends_with(".html")) continue;
    EXPECT_EQ(count(file.text, "</"), 0U) << file.name;
  }
}

TEST(PageData, HoldsTheNumbersAsGiven) {
  const ReportInputs inputs = sample_inputs();
  const boost::json::value data = data_of(must(write_html(inputs)));
  EXPECT_EQ(data.at("format").as_string(), "perseus-report/1");
  EXPECT_EQ(data.at("evidence").as_string(), "predicted");
  EXPECT_DOUBLE_EQ(data.at("t_min_s").to_number<double>(), inputs.t_min.value());
  ASSERT_EQ(data.at("points").as_array().size(), inputs.points.size());
  for (std::size_t p = 0; p < inputs.points.size(); ++p) {
    const auto& point = data.at("points").as_array()[p];
    EXPECT_DOUBLE_EQ(point.at("time_s").to_number<double>(), inputs.points[p].plan.time.value());
    EXPECT_DOUBLE_EQ(point.at("energy_j").to_number<double>(), inputs.points[p].plan.energy.value());
    EXPECT_DOUBLE_EQ(point.at("gap").to_number<double>(), inputs.points[p].plan.gap);
  }
  EXPECT_EQ(data.at("baselines").at(0).at("name").as_string(), "all-max");
  EXPECT_EQ(data.at("baselines").as_array().size(), inputs.baselines.size() + 1);
  EXPECT_EQ(data.at("warnings").at(0).as_string(), "sample.csv:7:2: a made-up warning");
}

TEST(PageData, ChoicesReadBackAsTheSameOptions) {
  const ReportInputs inputs = sample_inputs();
  const boost::json::value data = data_of(must(write_html(inputs)));
  const auto& classes = data.at("dag").at("classes").as_array();
  const auto class_of = unpacked(data.at("dag").at("class_of"));
  const auto& plans = data.at("plans").at("points").as_array();
  ASSERT_EQ(plans.size(), inputs.points.size());
  for (std::size_t p = 0; p < plans.size(); ++p) {
    const auto choice = unpacked(plans[p].at("choice"));
    ASSERT_EQ(choice.size(), inputs.problem.size());
    for (core::ComputationId i = 0; i < inputs.problem.size(); ++i) {
      const core::Option& option = inputs.problem.options(i)[inputs.points[p].plan.choice[i]];
      const auto& c = classes[class_of[i]];
      ASSERT_DOUBLE_EQ(c.at("time_s").at(choice[i]).to_number<double>(), option.time.value());
      ASSERT_EQ(c.at("clock_mhz").at(choice[i]).to_number<std::uint32_t>(), option.clock->value());
    }
  }
}

TEST(PageData, EdgesWithTheRanksOrderAreThePipelines) {
  const ReportInputs inputs = sample_inputs();
  const core::Pipeline& pipeline = inputs.problem.pipeline();
  const boost::json::value dag = data_of(must(write_html(inputs))).at("dag");
  const auto from = unpacked(dag.at("edge_from"));
  const auto to = unpacked(dag.at("edge_to"));
  ASSERT_EQ(from.size(), to.size());
  EXPECT_EQ(from.size() + pipeline.size() - pipeline.schedule().pipeline(), pipeline.edges().size());
  std::size_t next = 0;
  for (const core::Edge& edge : pipeline.edges()) {
    if (!edge.cross_rank) continue;
    ASSERT_EQ(from[next], edge.from);
    ASSERT_EQ(to[next], edge.to);
    ++next;
  }
  EXPECT_DOUBLE_EQ(dag.at("lags_s").at(0).to_number<double>(), 0.0005);
}

TEST(PageData, TheSizeSampleStaysSmall) {
  const ReportInputs inputs = sample_inputs({.ranks = 8, .microbatches = 128, .points = 40});
  EXPECT_LT(must(write_html(inputs)).size(), 400'000U);
}

TEST(PageData, ThinsPlansOfLargePipelinesEvenly) {
  EXPECT_THAT(points_with_plans(4, 100, 400), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(points_with_plans(40, 100, 400), ElementsAre(0, 13, 26, 39));
  EXPECT_THAT(points_with_plans(40, 1000, 10), ElementsAre(0, 39));
  EXPECT_THAT(points_with_plans(1, 1000, 10), ElementsAre(0));
  EXPECT_EQ(points_with_plans(40, 16'384).size(), 40U);
}

TEST(EqualTimePoint, SavesMostWithoutBeingSlowerThanAllMax) {
  ReportInputs inputs = sample_inputs();
  const core::Seconds all_max = core::exact_timing(inputs.problem, inputs.all_max).makespan.ceil_seconds();
  inputs.points[0].plan.time = inputs.points[1].plan.time = all_max;
  inputs.points[0].plan.energy = core::Joules(200);
  inputs.points[1].plan.energy = core::Joules(150);
  EXPECT_EQ(equal_time_point(inputs), 1U);
  inputs.points[1].plan.time = 1.0001 * all_max;
  EXPECT_EQ(equal_time_point(inputs), 0U);
}

TEST(Timing, AgreesWithTheExactOneAndFindsACriticalPath) {
  const ReportInputs inputs = sample_inputs();
  const core::Choice& choice = inputs.points[3].plan.choice;
  const PlanTiming timing = plan_timing(inputs.problem, choice);
  EXPECT_EQ(timing.makespan, inputs.points[3].plan.time);
  bool begins = false, ends = false;
  for (core::ComputationId i = 0; i < inputs.problem.size(); ++i) {
    EXPECT_GE(timing.slack[i], core::Seconds(0));
    EXPECT_EQ(timing.critical[i], timing.slack[i] == core::Seconds(0));
    const core::Seconds end = timing.start[i] + inputs.problem.options(i)[choice[i]].time;
    begins |= timing.critical[i] && timing.start[i] == core::Seconds(0);
    ends |= timing.critical[i] && end >= timing.makespan * (1 - 1e-12);
  }
  EXPECT_TRUE(begins);
  EXPECT_TRUE(ends);
}

TEST(Timing, SlackIsWhatTheMakespanToleratesExactly) {
  const ReportInputs inputs = sample_inputs();
  const PlanTiming timing = plan_timing(inputs.problem, inputs.all_max);
  // The second forward of rank 0 waits for the first only; delaying it by a slower option shows in the
  // makespan exactly as far as its slack is exceeded.
  const core::ComputationId i = 1;
  core::Choice slower = inputs.all_max;
  slower[i] = static_cast<std::uint32_t>(inputs.problem.options(i).size() - 1);
  const double delay =
      (inputs.problem.options(i)[slower[i]].time - inputs.problem.options(i)[inputs.all_max[i]].time).value();
  const double excess = std::max(0.0, delay - timing.slack[i].value());
  const PlanTiming delayed = plan_timing(inputs.problem, slower);
  EXPECT_NEAR((delayed.makespan - timing.makespan).value(), excess, 1e-12);
}

TEST(Timing, RankEnergiesSumToThePipelines) {
  const ReportInputs inputs = sample_inputs();
  core::Joules sum;
  for (const RankEnergy& rank : rank_energies(inputs.problem, inputs.all_max, core::Seconds(10))) {
    sum += rank.computing + rank.blocking;
  }
  const core::Joules whole = core::pipeline_energy(inputs.problem, inputs.all_max, core::Seconds(10));
  EXPECT_NEAR(sum / whole, 1, 1e-12);
}

TEST(Refusals, NameWhatIsWrong) {
  ReportInputs inputs = sample_inputs();
  inputs.points.clear();
  EXPECT_EQ(write_html(inputs).error().text(), "report: the frontier has no point; at least one is needed");
  inputs = sample_inputs();
  inputs.points[2].plan.choice.pop_back();
  EXPECT_EQ(write_frontier_svg(inputs).error().text(), "report: point 2 has 63 options for 64 computations");
  inputs = sample_inputs();
  inputs.all_max[1] = 28;
  EXPECT_EQ(write_html(inputs).error().text(), "report: all-max gives 0F1 on rank 0 option 28; it has 28");
  inputs = sample_inputs();
  inputs.points[1].plan.energy = core::Joules(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(write_html(inputs).error().text(), "report: a number of point 1 is nan; it must be finite");
  inputs = sample_inputs();
  EXPECT_EQ(write_timeline_png(inputs, 12).error().text(), "report: there is no point 12; the last is 11");
  EXPECT_EQ(write_chrome_trace(inputs, 99).error().text(), "report: there is no point 99; the last is 11");
  std::swap(inputs.points[0], inputs.points[11]);
  EXPECT_THAT(write_html(inputs).error().text(), HasSubstr("targets must rise"));
}

TEST(EveryOutput, IsDeterministic) {
  const auto write = [] {
    const ReportInputs inputs = sample_inputs();
    return must(write_html(inputs)) + must(write_frontier_svg(inputs)) + must(write_timeline_svg(inputs, 0)) +
           must(write_chrome_trace(inputs, 0)) + must(write_frontier_png(inputs)) +
           must(write_timeline_png(inputs, 0));
  };
  EXPECT_EQ(write(), write());
}

/// Every writer on inputs at the edge of what is allowed.
void expect_all_written(const ReportInputs& inputs) {
  EXPECT_THAT(must(write_html(inputs)), HasSubstr("perseus-report/1"));
  EXPECT_NO_THROW(data_of(must(write_html(inputs))));
  for (const std::string& svg : {must(write_frontier_svg(inputs)), must(write_timeline_svg(inputs, 0)),
                                 must(write_timeline_svg(inputs, 0, ColorBy::kPower))}) {
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
  }
  EXPECT_THAT(must(write_frontier_png(inputs)), StartsWith("\x89PNG"));
  EXPECT_THAT(must(write_timeline_png(inputs, 0, ColorBy::kPower)), StartsWith("\x89PNG"));
  EXPECT_NO_THROW(boost::json::parse(must(write_chrome_trace(inputs, 0))));
}

TEST(Degenerate, OneRankOneMicrobatchOneOptionOnePointNoBlocking) {
  ReportInputs inputs =
      sample_inputs({.ranks = 1, .microbatches = 1, .points = 1, .clocks = 1, .blocking_w = 0});
  inputs.baselines.clear();
  inputs.curve.clear();
  expect_all_written(inputs);
}

TEST(Degenerate, OneEmptyComputationTakesNoTime) {
  core::ProblemInputs inputs;
  inputs.profile.entries.push_back(
      {.stage = 0, .instruction = "load", .stage_b = {}, .options = {core::Option{}}});
  inputs.profile.entries.push_back(
      {.stage = 0, .instruction = "forward", .stage_b = {}, .options = testing::sample_options(0, 1, 1)});
  inputs.profile.entries[0].options[0].time = core::Seconds(1e-9);
  inputs.profile.entries.insert(
      inputs.profile.entries.begin(),
      {.stage = 0, .instruction = "backward", .stage_b = {}, .options = testing::sample_options(0, 1, 1)});
  inputs.blocking_power = {core::Watts(0)};
  core::Schedule schedule{.name = "by hand", .microbatches = 1, .ranks = {}, .instructions = {"load"}};
  schedule.ranks = {
      {{.kind = core::Kind::kOther}, {.kind = core::Kind::kForward}, {.kind = core::Kind::kBackward}}};
  std::swap(inputs.profile.entries[1], inputs.profile.entries[2]);
  ReportInputs report{
      .problem = must(core::Problem::build(must(core::Pipeline::build(schedule)), std::move(inputs)))};
  report.all_max = {0, 0, 0};
  report.points.push_back(testing::sample_point(report.problem, {0, 0, 0}, false));
  expect_all_written(report);
}

TEST(ChromeTrace, HasAProcessPerPipelineAndAThreadPerRank) {
  const ReportInputs inputs = sample_inputs();
  const boost::json::value trace = boost::json::parse(must(write_chrome_trace(inputs, 2)));
  const PlanTiming timing = plan_timing(inputs.problem, inputs.points[2].plan.choice);
  std::size_t computations = 0, threads = 0;
  std::vector<std::string> processes;
  for (const auto& event : trace.at("traceEvents").as_array()) {
    if (event.at("name").as_string() == "process_name") {
      processes.emplace_back(event.at("args").at("name").as_string());
    }
    threads += event.at("name").as_string() == "thread_name" ? 1U : 0U;
    if (event.at("ph").as_string() != "X") continue;
    if (event.at("pid").to_number<int>() == 1) {
      const auto i = static_cast<core::ComputationId>(computations);
      const core::Option& option = inputs.problem.options(i)[inputs.points[2].plan.choice[i]];
      EXPECT_DOUBLE_EQ(event.at("ts").to_number<double>(), 1e6 * timing.start[i].value());
      EXPECT_DOUBLE_EQ(event.at("dur").to_number<double>(), 1e6 * option.time.value());
      EXPECT_DOUBLE_EQ(event.at("args").at("energy_j").to_number<double>(), option.energy.value());
      EXPECT_DOUBLE_EQ(event.at("args").at("clock_mhz").to_number<double>(), option.clock->value());
      EXPECT_DOUBLE_EQ(event.at("args").at("slack_s").to_number<double>(), timing.slack[i].value());
      EXPECT_EQ(event.at("tid").to_number<std::uint32_t>(), inputs.problem.pipeline().rank_of(i));
    }
    ++computations;
  }
  EXPECT_THAT(processes, ElementsAre(StartsWith("Perseus plan, target "), "all-max"));
  EXPECT_EQ(threads, 8U);
  EXPECT_EQ(computations, 128U);
}

}  // namespace
}  // namespace perseus::report
