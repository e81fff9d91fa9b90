"""What EAF 3.0 allows of the elements that dgam writes, as an XML schema to validate with.

Written after "EAF Annotation Format 3.0 and ELAN" (H. Sloetjes, Max Planck Institute for Psycholinguistics),
which describes http://www.mpi.nl/tools/elan/EAFv3.0.xsd element by element: order, required attributes,
types, identities and references. Elements that dgam never writes (licences, locales, controlled vocabularies,
…) are not allowed here.
"""

from __future__ import annotations

from itertools import pairwise

from lxml import etree

_SCHEMA = """\
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" elementFormDefault="qualified">
  <xs:element name="ANNOTATION_DOCUMENT">
    <xs:complexType>
      <xs:sequence>
        <xs:element name="HEADER" type="header"/>
        <xs:element name="TIME_ORDER" type="timeOrder"/>
        <xs:element name="TIER" type="tier" minOccurs="0" maxOccurs="unbounded"/>
        <xs:element name="LINGUISTIC_TYPE" type="linguisticType" minOccurs="0" maxOccurs="unbounded"/>
        <xs:element name="CONSTRAINT" type="constraint" minOccurs="0" maxOccurs="unbounded"/>
      </xs:sequence>
      <xs:attribute name="AUTHOR" type="xs:string" use="required"/>
      <xs:attribute name="DATE" type="xs:dateTime" use="required"/>
      <xs:attribute name="FORMAT" type="xs:string" default="3.0"/>
      <xs:attribute name="VERSION" type="xs:string" use="required"/>
    </xs:complexType>
    <xs:key name="tierName"><xs:selector xpath="TIER"/><xs:field xpath="@TIER_ID"/></xs:key>
    <xs:keyref name="parentTier" refer="tierName">
      <xs:selector xpath="TIER"/><xs:field xpath="@PARENT_REF"/>
    </xs:keyref>
    <xs:key name="typeName">
      <xs:selector xpath="LINGUISTIC_TYPE"/><xs:field xpath="@LINGUISTIC_TYPE_ID"/>
    </xs:key>
    <xs:keyref name="tierType" refer="typeName">
      <xs:selector xpath="TIER"/><xs:field xpath="@LINGUISTIC_TYPE_REF"/>
    </xs:keyref>
  </xs:element>
  <xs:complexType name="header">
    <xs:sequence>
      <xs:element name="MEDIA_DESCRIPTOR" minOccurs="0" maxOccurs="unbounded">
        <xs:complexType>
          <xs:attribute name="MEDIA_URL" type="xs:anyURI" use="required"/>
          <xs:attribute name="MIME_TYPE" type="xs:string" use="required"/>
          <xs:attribute name="RELATIVE_MEDIA_URL" type="xs:anyURI"/>
        </xs:complexType>
      </xs:element>
    </xs:sequence>
    <xs:attribute name="MEDIA_FILE" type="xs:string"/>
    <xs:attribute name="TIME_UNITS" type="xs:NMTOKEN" default="milliseconds"/>
  </xs:complexType>
  <xs:complexType name="timeOrder">
    <xs:sequence>
      <xs:element name="TIME_SLOT" minOccurs="0" maxOccurs="unbounded">
        <xs:complexType>
          <xs:attribute name="TIME_SLOT_ID" type="xs:ID" use="required"/>
          <xs:attribute name="TIME_VALUE" type="xs:unsignedInt"/>
        </xs:complexType>
      </xs:element>
    </xs:sequence>
  </xs:complexType>
  <xs:complexType name="tier">
    <xs:sequence>
      <xs:element name="ANNOTATION" minOccurs="0" maxOccurs="unbounded">
        <xs:complexType>
          <xs:choice>
            <xs:element name="ALIGNABLE_ANNOTATION">
              <xs:complexType>
                <xs:sequence><xs:element name="ANNOTATION_VALUE" type="xs:string"/></xs:sequence>
                <xs:attribute name="ANNOTATION_ID" type="xs:ID" use="required"/>
                <xs:attribute name="TIME_SLOT_REF1" type="xs:IDREF" use="required"/>
                <xs:attribute name="TIME_SLOT_REF2" type="xs:IDREF" use="required"/>
              </xs:complexType>
            </xs:element>
            <xs:element name="REF_ANNOTATION">
              <xs:complexType>
                <xs:sequence><xs:element name="ANNOTATION_VALUE" type="xs:string"/></xs:sequence>
                <xs:attribute name="ANNOTATION_ID" type="xs:ID" use="required"/>
                <xs:attribute name="ANNOTATION_REF" type="xs:IDREF" use="required"/>
              </xs:complexType>
            </xs:element>
          </xs:choice>
        </xs:complexType>
      </xs:element>
    </xs:sequence>
    <xs:attribute name="TIER_ID" type="xs:string" use="required"/>
    <xs:attribute name="LINGUISTIC_TYPE_REF" type="xs:string" use="required"/>
    <xs:attribute name="PARENT_REF" type="xs:string"/>
  </xs:complexType>
  <xs:complexType name="linguisticType">
    <xs:attribute name="LINGUISTIC_TYPE_ID" type="xs:string" use="required"/>
    <xs:attribute name="TIME_ALIGNABLE" type="xs:boolean"/>
    <xs:attribute name="CONSTRAINTS" type="xs:IDREF"/>
    <xs:attribute name="GRAPHIC_REFERENCES" type="xs:boolean"/>
  </xs:complexType>
  <xs:complexType name="constraint">
    <xs:attribute name="STEREOTYPE" type="xs:ID" use="required"/>
    <xs:attribute name="DESCRIPTION" type="xs:string"/>
  </xs:complexType>
</xs:schema>
"""


def complaints(document: bytes) -> list[str]:
    """What is wrong with an EAF document, by the schema and by ELAN's rule that annotations of a time-aligned
    tier have a length and do not overlap."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    root = etree.fromstring(document, parser)
    schema = etree.XMLSchema(etree.fromstring(_SCHEMA.encode()))
    found = [] if schema.validate(root) else [str(error) for error in schema.error_log]
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    known = {*slots, *(one.get("ANNOTATION_ID") for one in root.iter("ALIGNABLE_ANNOTATION"))}
    references = ("TIME_SLOT_REF1", "TIME_SLOT_REF2", "ANNOTATION_REF")  # libxml2 does not follow IDREFs
    asked = {one.get(name) for one in root.iter() for name in references} - {None}
    found += [f"{name} does not exist" for name in asked - known]
    for tier in root.iter("TIER"):
        spans = sorted(
            (slots.get(one.get("TIME_SLOT_REF1"), 0), slots.get(one.get("TIME_SLOT_REF2"), 0))
            for one in tier.iter("ALIGNABLE_ANNOTATION")
        )
        name = tier.get("TIER_ID")
        found += [f"{name}: {span} has no length" for span in spans if span[0] >= span[1]]
        found += [f"{name}: {a} and {b} overlap" for a, b in pairwise(spans) if b[0] < a[1]]
    return found
