// SPDX-License-Identifier: Apache-2.0
//
// The files in examples/ are what the commands in examples/README.md write, and their jobs fit them.
// (tests/python/test_examples.py runs the very commands with the binary.)
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "perseus/core/job.h"
#include "perseus/format/files.h"
#include "perseus/format/job_yaml.h"
#include "perseus/format/profile_csv.h"
#include "perseus/model/gpu_zoo.h"
#include "perseus/model/synthesise.h"

namespace perseus::model {
namespace {

std::filesystem::path root() {
  return PERSEUS_SOURCE_DIR;
}

std::string slurp(const std::filesystem::path& path) {
  const auto bytes = format::read_file(path.string(), std::size_t{1} << 24U);
  EXPECT_TRUE(bytes) << bytes.error().text();
  return bytes.value_or("");
}

/// One `perseus synth` line of the README.
struct Example {
  SynthRequest request;
  std::filesystem::path file;
};

std::uint32_t number(const std::string& text) {
  return static_cast<std::uint32_t>(std::stoul(text));
}

/// Reads the line's flags; an unknown one fails the test.
Example parse(const std::string& line) {
  Example e;
  SynthRequest& r = e.request;
  const std::map<std::string, std::function<void(const std::string&)>> flags = {
      {"--model", [&](const std::string& v) { r.model = v; }},
      {"--gpu-model", [&](const std::string& v) { r.gpu = v; }},
      {"--pp", [&](const std::string& v) { r.pipeline = number(v); }},
      {"--tp", [&](const std::string& v) { r.tensor = number(v); }},
      {"--virtual-stages", [&](const std::string& v) { r.virtual_stages = number(v); }},
      {"--microbatch-size", [&](const std::string& v) { r.microbatch_size = number(v); }},
      {"--sequence-length", [&](const std::string& v) { r.sequence_length = number(v); }},
      {"--recompute",
       [&](const std::string& v) {
         if (v == "full") r.recompute = Recompute::kFull;
       }},
      {"--partition",
       [&](const std::string& v) {
         if (v == "ends-as-layers") r.partition = Partition::kEndsAsLayers;
       }},
      {"-o", [&](const std::string& v) { e.file = root() / v; }},
  };
  std::istringstream words(line.substr(std::string("perseus synth").size()));
  for (std::string flag, value; words >> flag;) {
    if (flag == "--split-backward") {
      r.split_backward = true;
      continue;
    }
    words >> value;
    const auto it = flags.find(flag);
    if (it == flags.end()) {
      ADD_FAILURE() << "examples/README.md uses " << flag << ", which this test does not know";
      break;
    }
    it->second(value);
  }
  return e;
}

std::vector<Example> examples() {
  std::istringstream readme(slurp(root() / "examples/README.md"));
  std::vector<Example> list;
  for (std::string line; std::getline(readme, line);) {
    if (line.starts_with("perseus synth ")) list.push_back(parse(line));
  }
  return list;
}

TEST(Examples, AreWhatTheirCommandsWrite) {
  ASSERT_GE(examples().size(), 3U);
  for (const Example& e : examples()) {
    const auto profile = synthesise(e.request);
    ASSERT_TRUE(profile) << profile.error().text();
    EXPECT_TRUE(slurp(e.file) == format::write_profile_csv(*profile))
        << e.file << " differs from its command";
  }
}

TEST(Examples, NoProfileIsWithoutItsCommand) {
  std::vector<std::string> documented;
  for (const Example& e : examples()) documented.push_back(e.file.filename());
  std::vector<std::string> present;
  for (const auto& file : std::filesystem::directory_iterator(root() / "examples")) {
    if (file.path().extension() == ".csv") present.push_back(file.path().filename());
  }
  EXPECT_THAT(present, testing::UnorderedElementsAreArray(documented));
}

TEST(Examples, ReadWithoutAWarning) {
  for (const Example& e : examples()) {
    const auto parsed = format::parse_profile_csv(slurp(e.file), e.file.string());
    ASSERT_TRUE(parsed) << parsed.error().text();
    EXPECT_TRUE(parsed->warnings.empty()) << parsed->warnings.front().text();
  }
}

TEST(Examples, JobsFitTheirProfiles) {
  for (const Example& e : examples()) {
    const auto path = std::filesystem::path(e.file).replace_extension(".yaml");
    const auto job = format::parse_job_yaml(slurp(path), path.string());
    ASSERT_TRUE(job) << job.error().text();
    EXPECT_EQ(job->profile, e.file.filename().string());
    EXPECT_EQ(job->pipeline, e.request.pipeline) << path;
    EXPECT_EQ(job->tensor, e.request.tensor) << path;
    EXPECT_EQ(job->virtual_stages.value_or(1), e.request.virtual_stages) << path;
    EXPECT_EQ(job->blocking_power, blocking_power(**find_gpu(e.request.gpu))) << path;
    EXPECT_EQ(job->p2p_lag, p2p_lag(e.request).value()) << path;
  }
}

}  // namespace
}  // namespace perseus::model
