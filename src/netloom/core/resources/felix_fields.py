"""The names of the fields that a FelixConfiguration of Calico's has.

Of each kind that is read here every field is named where it is read; of this one hardly any is, and
a misspelt one is to be told from one that does nothing here. Source: the schema of
FelixConfiguration in Calico's API (the resource definition, development after v3.32), and those of
releases since v3.0 that it has dropped meanwhile.
"""

from __future__ import annotations

#: By subject; a new release of Calico adds its names here.
_BY_SUBJECT = {
    "ours": """
        ipForwarding ipipEnabled ipipMTU ipv6Support vxlanEnabled vxlanMTU vxlanMTUV6 vxlanPort
        vxlanVNI floatingIPs
        """,
    "logs": """
        logActionRateLimit logActionRateLimitBurst logDebugFilenameRegex logFilePath logPrefix
        logSeverityFile logSeverityScreen logSeveritySys
        flowLogsCollectorDebugTrace flowLogsFlushInterval flowLogsGoldmaneServer
        flowLogsLocalReporter flowLogsPolicyEvaluationMode
        """,
    "metrics and health": """
        healthEnabled healthHost healthPort healthTimeoutOverrides
        prometheusGoMetricsEnabled prometheusMetricsCAFile prometheusMetricsCertFile
        prometheusMetricsClientAuth prometheusMetricsEnabled prometheusMetricsHost
        prometheusMetricsKeyFile prometheusMetricsPort prometheusProcessMetricsEnabled
        prometheusWireGuardMetricsEnabled
        endpointReportingDelay endpointReportingEnabled endpointStatusPathPrefix
        reportingInterval reportingTTL
        usageReportingEnabled usageReportingInitialDelay usageReportingInterval
        """,
    "the process": """
        cgroupV2Path dataplaneDriver dataplaneWatchdogTimeout useInternalDataplaneDriver
        debugDisableLogDropping debugHost debugMemoryProfilePath debugPort
        debugSimulateCalcGraphHangAfter debugSimulateDataplaneApplyDelay
        debugSimulateDataplaneHangAfter
        featureDetectOverride featureGates goGCThreshold goMaxProcs goMemoryLimitMB
        netlinkTimeout nodeSelector policySyncPathPrefix
        """,
    "interfaces and routes": """
        interfaceExclude interfacePrefix interfaceRefreshInterval mtuIfacePattern requireMTUFile
        deviceRouteProtocol deviceRouteSourceAddress deviceRouteSourceAddressIPv6
        ipv4ElevatedRoutePriority ipv4NormalRoutePriority ipv6ElevatedRoutePriority
        ipv6NormalRoutePriority liveMigrationRouteConvergenceTime
        localSubnetL2Reachability localSubnetL2ReachabilityRefreshInterval
        programClusterRoutes removeExternalRoutes routeRefreshInterval routeSource
        routeSyncDisabled routeTableRange routeTableRanges serviceLoopPrevention
        """,
    "rules": """
        allowIPIPPacketsFromWorkloads allowVXLANPacketsFromWorkloads chainInsertMode
        defaultEndpointToHostAction disableConntrackInvalidCheck externalNodesList
        failsafeInboundHostPorts failsafeOutboundHostPorts
        ipsetsRefreshInterval iptablesBackend iptablesFilterAllowAction iptablesFilterDenyAction
        iptablesLockFilePath iptablesLockProbeInterval iptablesLockTimeout
        iptablesMangleAllowAction iptablesMarkMask iptablesNATOutgoingInterfaceFilter
        iptablesPostWriteCheckInterval iptablesRefreshInterval kubeNodePortRanges maxIpsetSize
        natOutgoingAddress natOutgoingExclusions natPortRange
        nftablesFilterAllowAction nftablesFilterDenyAction nftablesMangleAllowAction
        nftablesMarkMask nftablesMode nftablesRefreshInterval workloadSourceSpoofing
        """,
    "bpf and xdp": """
        bpfAttachType bpfCTLBLogFilter bpfConnectTimeLoadBalancing
        bpfConnectTimeLoadBalancingEnabled bpfConntrackLogLevel bpfConntrackMode
        bpfConntrackTimeouts bpfDSROptoutCIDRs bpfDataIfacePattern bpfDisableGROForIfaces
        bpfDisableUnprivileged bpfEnabled bpfEnforceRPF bpfExcludeCIDRsFromNAT
        bpfExportBufferSizeMB bpfExtToServiceConnmark bpfExternalServiceMode
        bpfForceTrackPacketsFromIfaces bpfHostConntrackBypass bpfHostNetworkedNATWithoutCTLB
        bpfIPFragTimeout bpfIPFragmentReassemblyEnabled bpfJITHardening bpfKubeProxyHealthzPort
        bpfKubeProxyEndpointSlicesEnabled bpfKubeProxyIptablesCleanupEnabled
        bpfKubeProxyMinSyncPeriod bpfL3IfacePattern bpfLogFilters bpfLogLevel
        bpfMaglevMaxEndpointsPerService bpfMaglevMaxServices bpfMapSizeConntrack
        bpfMapSizeConntrackCleanupQueue bpfMapSizeConntrackScaling bpfMapSizeIPSets
        bpfMapSizeIfState bpfMapSizeNATAffinity bpfMapSizeNATBackend bpfMapSizeNATFrontend
        bpfMapSizePerCpuConntrack bpfMapSizeRoute bpfOverlayHostSourceIP bpfPSNATPorts
        bpfPolicyDebugEnabled bpfProfiling bpfRedirectToPeer
        genericXDPEnabled sidecarAccelerationEnabled xdpEnabled xdpRefreshInterval
        """,
    "wireguard": """
        wireguardEnabled wireguardEnabledV6 wireguardHostEncryptionEnabled wireguardInterfaceName
        wireguardInterfaceNameV6 wireguardKeepAlive wireguardListeningPort
        wireguardListeningPortV6 wireguardMTU wireguardMTUV6 wireguardRoutingRulePriority
        wireguardThreadingEnabled
        """,
    "surroundings": """
        awsSrcDstCheck istioAmbientMode istioDSCPMark metadataAddr metadataPort openstackRegion
        windowsManageFirewallRules
        """,
}
FIELDS: frozenset[str] = frozenset(name for names in _BY_SUBJECT.values() for name in names.split())
