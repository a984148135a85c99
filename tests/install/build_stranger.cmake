# SPDX-License-Identifier: Apache-2.0
# cmake -DBUILD= -DSTRANGER= -DSCRATCH= -DCOMPILER= -DVERSION= -P build_stranger.cmake
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGV}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${SCRATCH})
set(prefix "${SCRATCH}/a prefix")  # spaces are legal in paths
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${STRANGER} -B ${SCRATCH}/build -G Ninja -DCMAKE_CXX_COMPILER=${COMPILER}
    -DCMAKE_PREFIX_PATH=${prefix} -DPERSEUS_VERSION=${VERSION})
run(${CMAKE_COMMAND} --build ${SCRATCH}/build)
run(${SCRATCH}/build/program ${STRANGER}/profile.csv)
# By hand: F 0 on both stages, F1 and B1 in turn on the slower stage 1, the last B on stage 0.
if(NOT output MATCHES "^T_min = 0.102 s, T\\* = 0.[0-9]+ s\nplan: 0.102 s, [0-9.]+ J, proven least [0-9.]+ J\n$")
  message(FATAL_ERROR "the stranger's program printed: ${output}")
endif()

# The installed binary finds the simulated driver that was installed with it.
set(state ${SCRATCH}/simulated)
run(${prefix}/bin/perseus sim create --gpus 1 --gpu-model a40 --path ${state})
run(${prefix}/bin/perseus sim destroy --path ${state})
