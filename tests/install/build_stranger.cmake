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
run(${SCRATCH}/build/stranger)
if(NOT output MATCHES "T_min = [0-9.]+ s")
  message(FATAL_ERROR "the stranger's program printed: ${output}")
endif()
