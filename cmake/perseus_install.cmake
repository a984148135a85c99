# SPDX-License-Identifier: Apache-2.0
# `cmake --install` gives a stranger: the public headers, one static library per room, the binary where there is one,
# and a package that find_package(perseus) finds:
#
#   find_package(perseus 0.1 REQUIRED COMPONENTS solver schedule)
#   target_link_libraries(program PRIVATE perseus::solver perseus::schedule)
include(CMakePackageConfigHelpers)
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/perseus)

get_property(rooms GLOBAL PROPERTY PERSEUS_ROOMS)
list(REMOVE_ITEM rooms cli server demo)  # programs, not libraries
list(TRANSFORM rooms PREPEND perseus_ OUTPUT_VARIABLE room_targets)
install(TARGETS ${room_targets} EXPORT perseusTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT perseusTargets NAMESPACE perseus:: DESTINATION ${config_dir})
if(TARGET perseus)
  install(TARGETS perseus RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET perseus-demo-rank)
  # `perseus demo` starts it.
  install(TARGETS perseus-demo-rank RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/perseus)
endif()
if(TARGET perseus_client_shared)
  # Its header is the client room's.
  install(TARGETS perseus_client_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET perseus-agent)
  # Not on anybody's PATH: the service manager and `perseus agent` start it.
  install(TARGETS perseus-agent RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/perseus)
  # The unit names absolute paths, and `cmake --install --prefix` may give another prefix than was configured.
  install(CODE "
    set(PERSEUS_LIBEXEC_DIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBEXECDIR}/perseus\")
    set(PERSEUS_BIN_DIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
    set(PERSEUS_DOC_DIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATAROOTDIR}/doc/${PROJECT_NAME}\")
    foreach(unit perseus-agent perseus-telemetry)
      configure_file(${PROJECT_SOURCE_DIR}/packaging/systemd/\${unit}.service.in
                     ${PROJECT_BINARY_DIR}/packaging/\${unit}.service @ONLY)
    endforeach()")
  install(FILES ${PROJECT_BINARY_DIR}/packaging/perseus-agent.service
                ${PROJECT_BINARY_DIR}/packaging/perseus-telemetry.service DESTINATION lib/systemd/system)
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/systemd/perseus.sysusers.conf DESTINATION lib/sysusers.d
          RENAME perseus.conf)
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/agent.yaml ${PROJECT_SOURCE_DIR}/packaging/grants.yaml
          DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
  if(EXISTS ${PROJECT_SOURCE_DIR}/docs/agent.md)
    install(FILES ${PROJECT_SOURCE_DIR}/docs/agent.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
  endif()
endif()
if(TARGET perseus_sim_nvml)
  # Out of the loader's way: only who asks for the simulated driver gets it.
  install(TARGETS perseus_sim_nvml LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/perseus/sim NAMELINK_SKIP)
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/perseusConfig.cmake.in
  ${PROJECT_BINARY_DIR}/perseusConfig.cmake INSTALL_DESTINATION ${config_dir}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break its users.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/perseusConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/perseusConfig.cmake ${PROJECT_BINARY_DIR}/perseusConfigVersion.cmake
        DESTINATION ${config_dir})
