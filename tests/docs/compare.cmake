# SPDX-License-Identifier: Apache-2.0
# Fails unless DOCUMENT holds exactly what GENERATOR prints.
execute_process(COMMAND ${GENERATOR} OUTPUT_VARIABLE expected COMMAND_ERROR_IS_FATAL ANY)
file(READ ${DOCUMENT} actual)
if(NOT actual STREQUAL expected)
  message(FATAL_ERROR "${DOCUMENT} differs from the code; renew it with\n  ${GENERATOR} > ${DOCUMENT}")
endif()
