// SPDX-License-Identifier: Apache-2.0
//
// The inputs that most commands share: a job file, the same keys as flags, and what they resolve to.
#pragma once

#include <CLI/App.hpp>
#include <optional>
#include <string>
#include <vector>

#include "perseus/cli/io.h"
#include "perseus/core/job.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::cli {

/// Raw text of the flags; absent = not given.
struct InputFlags {
  std::optional<std::string> job_file;
  core::JobSpec spec;                         ///< numbers and names
  std::optional<std::string> blocking_power;  ///< "85" or "0:85,1:90,..."
  std::optional<std::string> p2p_lag;         ///< "0.001" or "0.001,0>1:0.002,..."
  std::vector<std::string> inserts;           ///< "load@0:before-forward"
};

/// Adds the shared flags to a command. `flags` must outlive the parsing.
void add_input_flags(CLI::App& command, InputFlags& flags);

/// Whether any of the shared flags was given.
[[nodiscard]] bool any_given(const InputFlags& flags);

/// How far the measured values lie from the fitted ones: measured / fitted - 1.
struct FitResiduals {
  double time_rms = 0;
  double time_most = 0;
  double energy_rms = 0;
  double energy_most = 0;
};

/// What the flags and files come to.
struct Inputs {
  core::JobSpec spec;                     ///< job file with the flags over it
  core::Problem problem;                  ///< what is planned: over the profile as written, or over its fit
  std::string fit;                        ///< "none" or "convex"
  std::optional<FitResiduals> residuals;  ///< of a convex fit
  std::vector<core::Warning> warnings;
};

/// Merges job file and flags, reads the files, builds the problem. Warnings go to `io` as well.
core::Result<Inputs> resolve_inputs(const InputFlags& flags, const Io& io);

/// Parses "85" or "0:85,1:90" into `spec` (origin: the flag).
core::Status parse_blocking_power(const std::string& text, core::JobSpec& spec);
/// Parses "0.001" or "0>1:0.002,1>2:0.003", or both forms in one list, into `spec`.
core::Status parse_p2p_lag(const std::string& text, core::JobSpec& spec);
/// Parses "INSTRUCTION@STAGE:POSITION", e.g. "load@0:before-forward".
core::Result<core::Insert> parse_insert(const std::string& text);
/// The flags' values where given, else the file's.
core::JobSpec merge(core::JobSpec file, const core::JobSpec& flags);

}  // namespace perseus::cli
